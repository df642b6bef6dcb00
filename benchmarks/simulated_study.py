"""A study whose truth is known: the scores that claims read, drawn for a planted accuracy in every cell.

An answer is right if a normal variable is above 0 (a probit model). Its mean is planted: it gives each regime, rung and
level of detail its accuracy exactly. Around it vary, all independent and normal: images, questions, seeds, trainings
(regime x seed), training x task, training x image, training x question, training x rung, and the answer itself. So
questions of an image are alike, answers of one training are alike, and regimes are paired by question, as in a real
study. `SD` is set so that trainings of a regime differ, and images vary, about as much as in `figures/offline-full`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from medstudy.claims.claim import DESIGN_GAIN, MEAN_GAIN
from medstudy.claims.paper import (
    ADDED_SHARE,
    LARGEST_GAIN,
    LEAST_LOSS,
    LOW_SHARE,
    MIXED_LOSS,
    MOST_LOSS,
    SMALLEST_GAIN,
    WORST_LOSS,
)
from medstudy.params import Study

FAMILIES = 4  # kinds of image, each with its own tasks; half of the tasks are fine
SD = {"image": 0.5, "question": 0.8, "seed": 0.02, "training": 0.04, "training x task": 0.15, "training x image": 0.25,
      "training x question": 0.6, "training x rung": 0.03, "answer": 0.7}
FINE, COARSE = 0.72, 0.92  # accuracies of native models at native resolution
BLIND = {"fine": 0.40, "coarse": 0.45}  # the same without an image
Table = dict[tuple[str, str, str], float]  # (regime, rung or control, level) -> accuracy


@dataclass(frozen=True)
class Design:
    """The sizes and cells of a study. rungs: label -> pixel budget, ascending; controls: of the native regime."""

    images: int
    seeds: int
    regimes: tuple[str, ...]
    rungs: Mapping[str, int]
    controls: tuple[str, ...]
    low: str
    questions: int = 5  # of an image; an image family has as many tasks

    @property
    def tasks(self) -> int:
        return FAMILIES * self.questions


def design(study: Study, images: int | None = None, seeds: int | None = None) -> Design:
    """The design of a params file, on its first data set. images, seeds: other sizes than its own."""
    rungs = {rung.label: rung.budget for rung in sorted(study.inference, key=lambda rung: rung.budget)}
    regimes = tuple(regime.label for regime in study.regimes)
    controls = tuple(view.label for view in study.controls.views)
    images = images or study.datasets[0].test
    return Design(images - images % FAMILIES, seeds or len(study.seeds), regimes, rungs, controls, study.low)


@dataclass(frozen=True)
class World:
    """True effects; shares of a score, or differences of scores. Which claim each belongs to is in brackets."""

    gain: float  # native over low, all questions (C1, C1b, O1)
    coarse: float  # the same on coarse questions (O2, O3)
    worst: float  # relative change of native models at the lowest rung (C2)
    loss: float  # of mixed training at native inference, relative (C3)
    share: float  # of the native score that the add regime keeps (C3b)
    mismatch: float  # of models trained elsewhere, on the same pixels (O4)
    ladder: float  # mixed over native training, averaged over the ladder (O5)
    detail: float  # native over down_up, fine questions (O7)
    sees: bool = True  # whether native models use the image (O6)


WORLDS = {
    "stated": World((SMALLEST_GAIN + LARGEST_GAIN) / 200, 0, -WORST_LOSS / 100, MIXED_LOSS / 100, ADDED_SHARE / 100,
                    -DESIGN_GAIN / 100, DESIGN_GAIN / 100, DESIGN_GAIN / 100),
    "average": World(MEAN_GAIN / 100, DESIGN_GAIN / 100, -WORST_LOSS / 100, MIXED_LOSS / 100, ADDED_SHARE / 100,
                     -DESIGN_GAIN / 100, DESIGN_GAIN / 100, DESIGN_GAIN / 100),
    "null": World(0, 0, -LEAST_LOSS / 100, MOST_LOSS / 100, LOW_SHARE / 100, 0, 0, 0),
    "blind": World(0, 0, 0, 0, 1, 0, 0, 0, sees=False),
}


def accuracies(plan: Design, world: World) -> Table:
    """The true accuracy of every cell at both levels."""
    return {
        (regime, cell, level): accuracy
        for level in ("fine", "coarse")
        for regime, cells in _level(plan, world, level).items()
        for cell, accuracy in cells.items()
    }


def _level(plan: Design, world: World, level: str) -> dict[str, dict[str, float]]:
    top = (FINE if level == "fine" else COARSE) if world.sees else BLIND[level]
    gain = world.coarse if level == "coarse" else 2 * world.gain - world.coarse
    octaves = np.log2(list(plan.rungs.values()))
    place = dict(zip(plan.rungs, (octaves[-1] - octaves) / (octaves[-1] - octaves[0]), strict=True))  # native 0 .. 1
    names, lowest = list(plan.rungs), next(iter(plan.rungs))
    at_low = place[plan.low]
    native = {name: top + (world.mismatch - gain) * min(1, place[name] / at_low) for name in names}
    low = {name: top - gain + (gain + world.mismatch) * max(0, 1 - place[name] / at_low) for name in names}
    if plan.low != lowest:
        native[lowest], low[lowest] = top * (1 + world.worst), (top - gain) * (1 + world.worst / 2)
    bump = (world.ladder * len(names) + world.loss * top) / (len(names) - 1)
    mixed = {name: native[name] + bump for name in names} | {"native": top * (1 - world.loss)}
    made = {"native": native, plan.low: low, "mixed": mixed}
    for regime in plan.regimes:
        share = world.share if regime.startswith("add-") else 1.0
        made.setdefault(regime, {name: native[name] * share for name in names})
    missing = world.detail if level == "fine" else 0.0
    made["native"] |= {name: top - missing if name.startswith("down_up") else BLIND[level] for name in plan.controls}
    return {regime: made[regime] for regime in plan.regimes}


def truths(plan: Design, world: World) -> dict[str, float]:
    """The true value of each claim's estimate, in the claim's unit."""
    table = accuracies(plan, world)

    def at(regime: str, cell: str, *levels: str) -> float:
        return float(np.mean([table[regime, cell, level] for level in levels or ("fine", "coarse")]))

    low, native = at(plan.low, plan.low), at("native", "native")
    changes = [at(regime, rung) / at(regime, regime) - 1 for regime in ("native", plan.low) for rung in plan.rungs
               if rung != regime]
    gains = {level: at("native", "native", level) - at(plan.low, plan.low, level) for level in ("fine", "coarse")}
    found = {
        "C1": native - low, "C1b": native - low, "C2": min(changes), "O1": gains["fine"], "O2": gains["coarse"],
        "O3": gains["fine"] - gains["coarse"], "O6": native - at("native", "blind"),
        "O4": min(at("native", plan.low) - low, at(plan.low, "native") - native),
        "O7": at("native", "native", "fine") - at("native", f"down_up-{plan.low.split('-')[-1]}", "fine"),
    }
    if "mixed" in plan.regimes:
        over = {regime: np.mean([at(regime, rung) for rung in plan.rungs]) for regime in ("mixed", "native")}
        found |= {"C3": 1 - at("mixed", "native") / native, "O5": over["mixed"] - over["native"]}
    for regime in (name for name in plan.regimes if name.startswith("add-")):
        found["C3b"] = at(regime, "native") / native
    return {claim: 100 * float(value) for claim, value in found.items()}


def scores(plan: Design, world: World, rng: np.random.Generator) -> pd.DataFrame:
    """One simulated study: the scores of the test split, as `scoring.score` gives them to claims."""
    images, questions, seeds = plan.images, plan.questions, plan.seeds
    task = np.arange(images)[:, None] % FAMILIES * questions + np.arange(questions)  # [I, Q]
    level = np.where(task % 2 == 0, "fine", "coarse")
    shared = _draw(rng, "image", images, 1, 1) + _draw(rng, "question", images, questions, 1)
    shared = shared + _draw(rng, "seed", 1, 1, seeds)
    total, table, parts = np.sqrt(sum(sd**2 for sd in SD.values())), accuracies(plan, world), []
    for regime in plan.regimes:
        model = shared + _draw(rng, "training", 1, 1, seeds) + _draw(rng, "training x image", images, 1, seeds)
        model = model + _draw(rng, "training x question", images, questions, seeds)
        model = model + _draw(rng, "training x task", plan.tasks, seeds)[task]
        for cell in (*plan.rungs, *(plan.controls if regime == "native" else ())):
            mean = np.where(level == "fine", *(total * special.ndtri(np.clip(table[regime, cell, of], 0.02, 0.98))
                                               for of in ("fine", "coarse")))
            noise = _draw(rng, "training x rung", 1, 1, seeds) + _draw(rng, "answer", images, questions, seeds)
            parts.append((regime, cell, mean[..., None] + model + noise > 0))
    return _frame(plan, parts, task, level)


def _draw(rng: np.random.Generator, effect: str, *shape: int) -> np.ndarray:
    return rng.normal(0, SD[effect], shape)


def _frame(plan: Design, parts: list[tuple[str, str, np.ndarray]], task: np.ndarray, level: np.ndarray) -> pd.DataFrame:
    """Answers [I, Q, S] of every cell as rows."""
    shape = parts[0][2].shape
    image, question, seed = (index.ravel() for index in np.indices(shape))
    rows, cells = image.size, len(parts)

    def repeated(values: list[str]) -> pd.Categorical:
        names = sorted(set(values))
        return pd.Categorical.from_codes(np.repeat([names.index(value) for value in values], rows), names)

    wide = {name: np.tile(np.broadcast_to(of[..., None], shape).ravel(), cells)
            for name, of in (("task", task), ("level", level))}
    budget = [plan.rungs.get(cell, plan.rungs["native"]) for _, cell, _ in parts]
    control = [cell.split("-")[0] if cell in plan.controls else "none" for _, cell, _ in parts]
    return pd.DataFrame({
        "dataset": "simulated", "split": "test", "image_id": np.tile(image, cells), "group": np.tile(image, cells),
        "question_id": np.tile(question, cells), "seed": np.tile(seed, cells), **wide,
        "regime": repeated([regime for regime, _, _ in parts]), "inference": repeated([cell for _, cell, _ in parts]),
        "control": repeated(control), "budget_pixels": np.repeat(budget, rows),
        "score": np.concatenate([right.ravel() for _, _, right in parts]).astype(float),
    })


def training(plan: Design) -> pd.DataFrame:
    """Training logs in which the add regime costs 5 % more visual tokens than native training."""
    cost = {regime: 1.05 if regime.startswith("add-") else 1.0 for regime in plan.regimes}
    return pd.DataFrame([{"run_id": regime, "regime": regime, "step": 1, "visual_tokens": 1e6 * of, "flops": 1e12 * of}
                         for regime, of in cost.items()])
