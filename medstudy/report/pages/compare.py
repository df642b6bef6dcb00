"""Several models of a study together: score and cost of every model at every rung, and their claims side by side."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd

from medstudy.params import Study
from medstudy.report import captions, inference_cost, save, selections, style
from medstudy.report.figures import score_and_cost
from medstudy.report.save import Rendered
from medstudy.report.study_data import SCORES, StudyData, claims_file, costs_of
from medstudy.report.tables import inference_costs
from medstudy.runs import inputs, plan

FIGURE, COSTS, CLAIMS = "score_and_cost", "scores_and_costs", "claims"
TITLES = {FIGURE: "Score against the cost of an answer, by model", COSTS: "Scores and costs by model and rung",
          CLAIMS: "Claims by model"}
COLOURS = (style.BLUE, style.VERMILLION, style.GREEN, style.PURPLE, style.ORANGE, style.SKY, style.BLACK, style.GREY)
MARKERS = "osD^v<>Pp"


def compare(study: Study, out: Path) -> list[Rendered]:
    """Write the figure, both tables and README.md into `out`; returns them in reading order."""
    everything, claims = gathered(study)
    data, words = shared(everything)
    points = named(inference_cost.points(data.scores, data.costs, data.confidence, ("model", "regime")), study.trains)
    rendered = [_figure(points, data, words, out), _costs(points, data, words, out), _claims(claims, out)]
    parts = [f"# {study.study}: its models compared", *(_part(item) for item in rendered)]
    (out / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return rendered


def gathered(study: Study) -> tuple[StudyData, pd.DataFrame]:
    """Scores and costs of all models, and their claims with a column `model`. Raises RunError if a job is missing."""
    stages = [inputs.by_stage(part) for part in study.each()]
    labels = [model.label for model in study.models]
    scores = pd.concat(
        [selections.texts(inputs.gather(inputs.complete(each["scores"]), "scores.parquet", SCORES)) for each in stages],
        ignore_index=True,
    )
    costs = pd.concat([costs_of(each) for each in stages], ignore_index=True)
    claims = pd.concat([pd.read_csv(claims_file(part)).assign(model=label)
                        for part, label in zip(study.each(), labels, strict=True)], ignore_index=True)
    facts = {"name": study.study, "confidence": study.intervals.confidence, "as_is": not study.trains}
    return StudyData(scores=scores, costs=costs, study=facts), claims


def shared(data: StudyData) -> tuple[StudyData, str]:
    """The scores and costs of the questions that every model answered, and a sentence that counts them.

    An encoder leaves out open questions, so that its own report has others than that of a language model.
    """
    question = ["dataset", "image_id", "question_id"]
    answered = data.scores.groupby(question)["model"].nunique()
    common = answered[answered == data.scores["model"].nunique()].index
    kept = [rows[pd.MultiIndex.from_frame(rows[question]).isin(common)] if len(rows) else rows
            for rows in (data.scores, data.costs)]
    words = (
        f"All {len(common)} questions are answered by every model." if len(common) == len(answered) else
        f"Of {len(answered)} questions, the {len(common)} that every model answers are compared: a model that cannot "
        "answer a question leaves it out."
    )
    return replace(data, scores=kept[0], costs=kept[1]), words


def named(points: pd.DataFrame, trained: bool) -> pd.DataFrame:
    """The points with a column `series`: the model's label, and its regime if the study trains."""
    if points.empty:
        return points
    regimes = points["regime"].map(lambda regime: f", {style.regime_label(regime)}") if trained else ""
    return points.assign(series=points["model"] + regimes)


def looks(series: list[str]) -> dict[str, dict[str, str]]:
    """A colour and a marker for each line."""
    return {name: {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
            for place, name in enumerate(series)}


def _figure(points: pd.DataFrame, data: StudyData, compared: str, out: Path) -> Rendered:
    table = score_and_cost.long(points, "series")
    if table.empty:
        return Rendered(FIGURE, TITLES[FIGURE], missing=f"no point has a score and a cost. {compared}")
    series = list(dict.fromkeys(table["series"]))
    unknown = [name for name in dict.fromkeys(points["series"]) if name not in set(_with(table, "flops"))]
    caption = (
        "**Question.** Which model, at which resolution, gives the best score for its cost? **Method.** Every model at "
        "every rung answers the same questions: the mean score against operations and seconds a question, and visual "
        f"tokens an image (log scales). {compared} {inference_cost.RULE} "
        + (f"Operations are unknown for {captions.join(unknown)}. " if unknown else "")
        + f"**n.** {captions.count_words(data.scores)}. Bars are {captions.interval_words(data)}; costs have no "
        f"interval. {score_and_cost.read()} {score_and_cost.words(table)}"
    )
    with style.context():
        figure = score_and_cost.drawn(table, series, looks(series).__getitem__, str, "model")
        files = save.save(figure, table, TITLES[FIGURE], caption, out, FIGURE)
    return Rendered(FIGURE, TITLES[FIGURE], caption, tuple(files))


def _with(table: pd.DataFrame, cost: str) -> pd.Series:
    return table.loc[table["cost"] == cost, "series"]


def _costs(points: pd.DataFrame, data: StudyData, compared: str, out: Path) -> Rendered:
    table = inference_costs.wide(points, "series")
    if table.empty:
        return Rendered(COSTS, TITLES[COSTS], missing=f"no point has a score and a cost. {compared}")
    caption = (
        f"Every model at every rung, over the same questions. {compared} {inference_costs.about(data)} In brackets "
        f"{captions.interval_words(data)}."
    )
    return _table(COSTS, table.rename(columns={"series": "model"}), caption, out)


def _claims(claims: pd.DataFrame, out: Path) -> Rendered:
    """One row per claim, one column per model: the estimate with its interval, and the verdict."""
    if claims.empty:
        return Rendered(CLAIMS, TITLES[CLAIMS], missing="no claim is tested on the data of this study")
    ends = zip(claims["estimate"], claims["low"], claims["high"], claims["verdict"], strict=True)
    cells = [f"{verdict}, {save.interval(*row, 1)}" if pd.notna(row[0]) else verdict for *row, verdict in ends]
    wide = claims.assign(cell=cells).pivot(index="id", columns="model", values="cell")
    order = list(dict.fromkeys(claims["id"]))
    words = claims.drop_duplicates("id").set_index("id")["claim"]
    table = wide.loc[order, list(dict.fromkeys(claims["model"]))]
    table.insert(0, "claim", words[order])
    caption = (
        "The claims of each model by itself, in the units of each claim, over all questions that it answers. The "
        "reasons are in the models' own reports. "
        "Verdicts are not comparisons of models: two models may differ in verdict and hardly differ in estimate."
    )
    return _table(CLAIMS, table.reset_index(), caption, out)


def _table(name: str, table: pd.DataFrame, caption: str, out: Path) -> Rendered:
    files = [out / f"{name}_table{suffix}" for suffix in (".csv", ".md")]
    save.write_csv(table, files[0])
    files[1].write_text(f"# {TITLES[name]}\n\n{caption}\n\n{save.markdown(table)}\n", encoding="utf-8")
    return Rendered(name, TITLES[name], caption, tuple(files))


def _part(item: Rendered) -> str:
    """A figure or a table as a section of README.md."""
    if item.missing:
        return f"## {item.title}\n\nNot made: {item.missing}."
    pictures = [f"![{item.title}]({file.name})" for file in item.files if file.suffix == ".png"]
    pages = [file for file in item.files if file.name.endswith("_table.md")]
    rows = [file.read_text(encoding="utf-8").split("\n\n", 2)[2].strip() for file in pages]
    return "\n\n".join([f"## {item.title}", *pictures, item.caption, *rows])


def publish(job: plan.Job, folder: Path) -> None:
    """Copy what a comparison wrote to the folder of figures."""
    for file in sorted(job.dir.iterdir()):
        if file.name != save.KEPT:
            shutil.copyfile(file, folder / file.name)
