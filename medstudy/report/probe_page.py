"""The figure, the table and the page of a probe study, in figures/STUDY/."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from medstudy.bounds import results
from medstudy.bounds.results import GUESS, TOWER
from medstudy.params import Study
from medstudy.report import frames, save, selections, style
from medstudy.runs.plan import Job
from medstudy.statistics import summarise
from medstudy.utils import redact

FIGURE, TABLE = "resolution", "tasks"
TITLE = "What a linear reader finds in a frozen encoder, against the resolution shown"
MARKS = (
    "visible: a reader tells the task from chance at the largest rung. fine: it also does worse at the low rung. Both "
    "by intervals (`medstudy.bounds.marks`); fall is the difference in question, as a share of 1."
)


def curves(answers: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """One row per data set x level x training view x rung: mean score with interval, mean shown side and tokens."""
    rows = answers[answers["reader"] == TOWER]
    by = ["dataset", "level", "regime", "inference", "budget_pixels"]
    sizes = selections.shown_sizes(rows, ["dataset", "inference"])
    table = summarise(rows, by, confidence=confidence).merge(sizes, on=["dataset", "inference"])
    chance = rows.groupby(["dataset", "level"], as_index=False)["chance"].mean()
    guess = answers[answers["reader"] == GUESS].groupby(["dataset", "level"], as_index=False)["score"].mean()
    table = table.merge(chance, on=["dataset", "level"]).merge(guess.rename(columns={"score": "guess"}))
    return table.sort_values(["dataset", "level", "regime", "budget_pixels"], ignore_index=True)


def tasks(answers: pd.DataFrame, marks: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """One row per task and training view: its score in per cent at each rung, with interval, and the task's mark."""
    by = ["dataset", "level", "task", "regime"]
    cells = summarise(answers[answers["reader"] == TOWER], [*by, "inference", "budget_pixels"], confidence=confidence)
    rungs = cells.drop_duplicates("inference").sort_values("budget_pixels")["inference"]
    rows = []
    for key, part in cells.groupby(by, sort=False):
        row, at = dict(zip(by, key, strict=True)), part.set_index("inference")
        for rung in rungs:
            for column, end in (("estimate", ""), ("low", "_low"), ("high", "_high")):
                row[f"{style.rung_label(rung)}_pct{end}"] = 100 * at.loc[rung, column]
        rows.append(row | {"n_questions": part["n_questions"].iloc[0]})
    table = pd.DataFrame(rows)
    chance = answers.groupby(["dataset", "task"], as_index=False)["chance"].mean()
    table = table.merge(chance.assign(chance_pct=100 * chance.pop("chance")), on=["dataset", "task"])
    return table.merge(marks[["dataset", "task", "mark"]], on=["dataset", "task"])


def draw(table: pd.DataFrame) -> Figure:
    """One row per data set, one column per level; one line per training view, with its interval as a band."""
    figure, last = frames.by_level(table, None, frames.ladder)
    for ax in last:
        ax.set_xlabel("shown at: pixel budget (below: mean tokens)")
    return figure


def caption(table: pd.DataFrame, study: Study, unbounded: pd.DataFrame) -> str:
    """What is drawn, n, and how to read it."""
    counts = "; ".join(f"{row.dataset}, {row.level}: {row.n_questions} questions, {row.n_images} independent images"
                       for row in table.drop_duplicates(["dataset", "level"]).itertuples())
    left = ", ".join(f"{row.task} ({row.dataset}: {row.why})" for row in unbounded.itertuples())
    return (
        f"**Question.** How much can be read from the frozen features of {redact.last(study.model.id)} at each "
        "resolution? **Method.** One linear reader for each question, fitted on the train images as a training view "
        "shows them; its penalty is chosen on the val split; tested on the test split at every rung. "
        f"**n.** {counts}. Bands are {100 * study.intervals.confidence:g} % intervals over images; the readers are "
        "fitted once, so they do not hold the chance of the draw of training images. **How to read it.** The dotted "
        "line is uniform guessing. A line that falls to the left loses what the question needs; lines that differ at a "
        "rung show what a training view is worth there. Coarse questions should not fall."
        + (f" Not read: {left}." if left else "")
    )


def publish(study: Study, job: Job) -> None:
    """Write figure, tables and README.md of a complete probe into figures/STUDY/."""
    found, confidence = results.read([job.dir]), study.intervals.confidence
    table = curves(found.answers, confidence)
    text = caption(table, study, found.unbounded)
    with style.context():
        save.save(draw(table), table, TITLE, text, study.figures, FIGURE)
    each = tasks(found.answers, found.marks, confidence)
    save.write_csv(each, study.figures / f"{TABLE}.csv")
    save.write_csv(found.marks, study.figures / results.MARKS)
    parts = (f"# {TITLE}", f"![{TITLE}]({FIGURE}.png)", text, "## Tasks", save.markdown(each), "## Marks",
             MARKS, save.markdown(found.marks))
    (study.figures / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
