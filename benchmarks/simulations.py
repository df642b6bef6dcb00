"""What the claims do in studies whose truth is known: coverage, false verdicts, and how often they decide.

    python -m benchmarks.simulations [PARAMS ...] [--studies 400] [--docs]      about 8 minutes a params file

Writes benchmarks/results/simulations.json; --docs also writes the table into docs/explanation/statistics.md. Without
PARAMS it simulates params/offline.yaml and params/offline-full.yaml, with their images, seeds, regimes and rungs.
--images and --seeds try other sizes. What is planted, and what varies, is in `benchmarks.simulated_study`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import simulated_study as simulated
from medstudy import claims, params, paths
from medstudy.claims.claim import INCONCLUSIVE, NOT_RUN, OUR_WORDS, PAPER_WORDS, POWER, ClaimTest, Precision
from medstudy.claims.study_scores import StudyScores

RESULTS = Path(__file__).parent / "results" / "simulations.json"
PAGE = paths.ROOT / "docs" / "explanation" / "statistics.md"
STUDIES = ("offline-full",)  # offline has the same sizes
YES, NO = {PAPER_WORDS[0], OUR_WORDS[0]}, {PAPER_WORDS[1], OUR_WORDS[1]}
STATED = {"C1b": "average"}  # claim: the world whose effect is the one that it states; else "stated"
NULL = {"C1b": "stated", "O2": "average", "O6": "blind"}  # claim: the world in which yes is false; else "null"
ALONE = {"average": ("C1b", "O2"), "blind": ("O6",)}  # worlds that these claims alone need
CONFIDENCE = StudyScores.confidence
SIZED = 12  # simulated studies from which the size that decides is taken


def simulate(
    plan: simulated.Design, world: str, studies: int, seed: int = 0, only: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """Every claim that was run in each of these studies: columns claim, truth, low, high, verdict, precision.

    only: these claims alone. precision: a `Precision`, or None, also in every study after the first `SIZED`.
    """
    truths, logs = simulated.truths(plan, simulated.WORLDS[world]), simulated.training(plan)
    tests = [test for test in claims.CLAIMS if test.id in truths and test.id in (only or truths)]
    rows = []
    for number in range(studies):
        rng = np.random.default_rng([seed, number, list(simulated.WORLDS).index(world)])
        study = StudyScores(simulated.scores(plan, simulated.WORLDS[world], rng), logs, low=plan.low)
        rows += [_tested(test, study, truths[test.id], number < SIZED) for test in tests]
    table = pd.DataFrame(rows)
    return table[table["verdict"] != NOT_RUN]


def _tested(test: ClaimTest, study: StudyScores, truth: float, sized: bool) -> dict:
    row = test(study)
    precision = test.find(study).precision if sized and row.verdict != NOT_RUN else None
    return {"claim": row.id, "truth": truth, "low": row.low, "high": row.high, "verdict": row.verdict,
            "precision": precision}


def _needs(precisions: list[Precision]) -> list[int] | None:
    """The images and seeds that decide the stated effect in 80 % of studies, by the average of their variances."""
    if not precisions:
        return None
    spreads = [precision.spread for precision in precisions]
    average = {name: float(np.mean([getattr(spread, name) for spread in spreads]))
               for name in ("v_image", "v_seed", "seed_df")}
    first = replace(precisions[0], spread=replace(spreads[0], **average))
    size = first.size(first.stated, CONFIDENCE, POWER)
    return [size.images, size.seeds] if size else None


def table(plan: simulated.Design, studies: int, seed: int = 0) -> list[dict]:
    """One line per claim: shares of simulated studies."""
    worlds = {world: simulate(plan, world, studies, seed, ALONE.get(world)) for world in simulated.WORLDS}
    names = list(dict.fromkeys(worlds["stated"]["claim"]))
    return [_line(name, {world: rows[rows["claim"] == name] for world, rows in worlds.items()}) for name in names]


def _line(name: str, worlds: dict[str, pd.DataFrame]) -> dict:
    """covered: the interval holds the truth; the lowest and highest of the worlds in which the claim was tested."""
    stated, null = worlds[STATED.get(name, "stated")], worlds[NULL.get(name, "null")]
    covered = [float(rows["truth"].between(rows["low"], rows["high"]).mean())
               for rows in worlds.values() if len(rows)]
    decided = float((stated["verdict"] != INCONCLUSIVE).mean())
    return {
        "claim": name, "stated": float(stated["truth"].iloc[0]), "null": float(null["truth"].iloc[0]),
        "covered": [min(covered), max(covered)], "decided": decided,
        "false_no": float(stated["verdict"].isin(NO).mean()), "false_yes": float(null["verdict"].isin(YES).mean()),
        "studies": len(stated),
        "needs": _needs(list(stated["precision"].dropna())) if decided < POWER else None,
    }


def markdown(results: list[dict]) -> str:
    """The table as docs/ shows it."""
    head = ["study", "claim", "stated", "decided, %", "called no, %", "null", "called yes, %", "covered, %",
            "decides in 80 %"]
    lines = [f"| {' | '.join(head)} |", "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    for study in results:
        number = study["lines"][0]["studies"]
        size = f"`{study['study']}`: {study['images']} images, {study['seeds']} seeds ({number} studies)"
        lines += [f"| {size} | {_cells(line)} |" for line in study["lines"]]
    return "\n".join(lines)


def _cells(line: dict) -> str:
    needs = "this size" if line["decided"] >= POWER else "no practical size"
    if line["needs"]:
        needs = f"about {line['needs'][0]:,} images, {line['needs'][1]} seeds"
    covered = " to ".join(f"{100 * end:.0f}" for end in line["covered"])
    shares = [f"{100 * line[name]:.1f}" for name in ("decided", "false_no", "false_yes")]
    return " | ".join([line["claim"], f"{line['stated']:+.2f}", *shares[:2], f"{line['null']:+.2f}", shares[2], covered,
                       needs])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", nargs="*", type=Path)
    parser.add_argument("--studies", type=int, default=400, help="simulated studies in each world (default 400)")
    parser.add_argument("--images", type=int, help="test images instead of those of the params file")
    parser.add_argument("--seeds", type=int, help="training seeds instead of those of the params file")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to write (default the committed one)")
    parser.add_argument("--docs", action="store_true", help="also write the table into docs/explanation/statistics.md")
    options = parser.parse_args()
    results = []
    for file in options.params or [paths.ROOT / "params" / f"{name}.yaml" for name in STUDIES]:
        study = params.load(file)
        plan = simulated.design(study, options.images, options.seeds)
        lines = table(plan, options.studies)
        results.append({"study": study.study, "images": plan.images, "seeds": plan.seeds, "lines": lines})
        print(markdown(results[-1:]), flush=True)
    with paths.atomic(options.results) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.docs:
        from medstudy.report.pages import readme

        print(f"Written: {readme.replace('simulations', markdown(results), PAGE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
