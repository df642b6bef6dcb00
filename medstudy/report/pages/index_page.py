"""A study's figures/STUDY/README.md, to read on a code-hosting site, and the texts that it shares with report.html."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from medstudy import datasets
from medstudy.data import leakage
from medstudy.report import captions, figures, save, selections, style, tables
from medstudy.report.captions import join, plural
from medstudy.report.study_data import StudyData
from medstudy.utils import redact

QUESTION = (
    "At which image resolution should a biomedical multimodal model be trained, and at which should it run? Images are "
    "commonly downsampled to a small fixed size, while the detail that decides a biomedical question may be a few "
    "pixels wide. The study asks what native resolution gains, what a mismatch between training and inference costs, "
    "and whether training at mixed resolutions makes the choice unnecessary. It tests the claims of arXiv 2510.18304 "
    '("The Impact of Image Resolution on Biomedical Multimodal Large Language Models").'
)
REGIMES = {
    "native": "every image at its own size, up to a stated cap",
    "fixed": "every image downsampled to at most that many pixels, aspect ratio kept",
    "square": "every image stretched to that square",
    "pad": "every image downsampled, aspect ratio kept, and padded to that square",
    "mixed": "one of several resolutions, including native, drawn for each sample and epoch",
    "add": "every native sample and also a low-resolution variant of it",
    "curriculum": "low resolution first, then higher, native last",
    "down_up": "every image downsampled and enlarged again: native's visual tokens without its detail",
    "equal_flops": "every image at the low resolution, with as many steps as take the FLOPs of native's training",
    "base": "the model without fine-tuning, for comparison",
}
CONTROLS = {
    "down_up": "down_up (details lost, token count kept)",
    "blind": "blind (no image)",
    "shuffled": "shuffled (another item's image)",
}
ALL_RUN = "Every regime, control, claim, figure and table was run."


def write(study: StudyData, out_dir: str | Path) -> Path:
    """Write out_dir/README.md from the figures and tables in `out_dir`; returns its path."""
    out = Path(out_dir)
    parts = [
        f"# {title(study)}",
        _section("Question", QUESTION),
        _section("Method in short", method(study)),
        *([_section("Leaks", bullets(leaks(study)))] if study.leak_words else []),
        _section("Claims and verdicts", _claims(study)),
        _section("Figures", _figures(out)),
        _section("Tables", _tables(out)),
        _section("What this does not show", bullets(limits(study))),
        _section("Not run", bullets(not_run(study, out)) or ALL_RUN),
        _section("Provenance", bullets(provenance(study))),
    ]
    path = out / "README.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def title(study: StudyData) -> str:
    """The heading of the study's pages."""
    return f"{study.study.get('name', 'study')}: resolution in training and at inference"


def bullets(lines: list[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def leaks(study: StudyData) -> list[str]:
    """One sentence for each leak between training and evaluation."""
    return [line for lines in leakage.sentences(study.leaks).values() for line in lines]


def method(study: StudyData) -> str:
    """Training, evaluation and statistics in short, with the numbers of this study."""
    rows = selections.plain(study.scores)
    names = selections.regimes(rows)
    trained = [name for name in names if name != "base"]
    seeds = rows.loc[rows["regime"] != "base", "seed"].nunique()
    fine = rows.drop_duplicates(["dataset", "image_id", "question_id"])["level"].eq("fine").mean()
    kinds = [f"**{style.regime_label(name)}**: {_regime(name)}" for name in names]
    tuned = [
        f"{_model(study)} It is fine-tuned once for each training regime and seed ({plural(len(trained), 'regime')}, "
        f"{plural(seeds, 'training seed')}); only the resolution differs. {_training_images(study)} "
        f"{_training(study)}".rstrip(),
        "Training regimes:\n\n" + bullets(kinds),
    ]
    return "\n\n".join([
        *([f"{_model(study)} It is evaluated as it is: nothing is trained."] if study.as_is else tuned),
        "Every model then answers every test question at every rung of an inference ladder. The mean size of images as "
        "they are shown there, and their cost:",
        _ladder(rows),
        f"Test set: {captions.count_words(rows)}. {fine:.0%} of the questions are *fine*: the size of the smallest "
        "feature that decides them is known, in native pixels. The other questions of such a data set are *coarse*, "
        "controls that resolution should not change; in other data sets the level is *unknown*. Answers are generated "
        f"greedily and scored. Intervals are {study.confidence:.0%} and treat images and training seeds as random. "
        "Comparisons are paired question by question; families of tests have Holm's correction. *Aligned* models run "
        "at the resolution that they were trained at. Procedural and real images are never pooled: figures separate "
        "them, and every claim is tested on each.",
        _controls(study),
    ])


def _model(study: StudyData) -> str:
    name, parameters = redact.last(study.study.get("model", "A small Qwen2-VL")), study.study.get("parameters")
    size = f" ({parameters / 1e6:.1f} million parameters)" if parameters else ""
    return f"The model is {name}{size}." if "model" in study.study else f"{name}{size}, pre-trained on general images."


def _training_images(study: StudyData) -> str:
    if study.examples.empty:
        return ""
    train = study.examples[study.examples["split"] == "train"]
    counts = train.groupby("dataset")["image_id"].nunique()
    return f"Training images: {join([f'{n} {name}' for name, n in counts.items()])}."


def _training(study: StudyData) -> str:
    if "training" not in study.study:
        return ""
    options = study.study["training"]
    return (
        f"{plural(options['epochs'], 'epoch')} of {options['images_per_step']} images per step, optimizer "
        f"{options['optimizer']}, peak learning rate {options['learning_rate']:g}. {captions.tower_words(study)}"
    )


def _regime(name: str) -> str:
    return REGIMES.get(style.kind(name), "see the study's parameters")


def _ladder(rows: pd.DataFrame) -> str:
    sizes = selections.shown_sizes(rows, ["dataset", "inference"])
    wide = sizes.assign(
        cell=[f"{s:.0f}² px, {t:.0f} tokens" for s, t in zip(sizes["side_px"], sizes["tokens"], strict=True)]
    )
    table = wide.pivot(index="inference", columns="dataset", values="cell").reindex(selections.ladder(rows))
    table = table[selections.datasets(rows)].reset_index().rename(columns={"inference": "shown at"})
    return save.markdown(table.assign(**{"shown at": table["shown at"].map(style.rung_label)}))


def _controls(study: StudyData) -> str:
    controls = selections.controls(study.scores)["control"]
    present = [words for name, words in CONTROLS.items() if (controls == name).any()]
    return f"Controls: {join(present)}." if present else "No controls were run."


def _claims(study: StudyData) -> str:
    if study.claims.empty:
        return tables.claims.caption(study.claims, study)
    table = tables.claims.build(study)
    names = {"source_value": "source", "estimate": "ours", "estimate_low": "ours_low", "estimate_high": "ours_high"}
    short = table[["id", "claim", *names, "verdict", "to_settle"]].rename(columns=names)
    reasons = "\n".join(f"- **{row.id}** ({row.verdict}). {row.why}" for row in table.itertuples())
    why = f"<details><summary>Why: the rule and sample sizes of each verdict</summary>\n\n{reasons}\n\n</details>"
    return f"{tables.claims.caption(table, study)}\n\n{save.markdown(short)}\n\n{why}"


def _figures(out: Path) -> str:
    return "\n\n".join(_figure(out, entry) for entry in drawn(out)) or "None was drawn."


def drawn(out: Path) -> list[figures.Entry]:
    """The figures in the folder, in reading order."""
    return [entry for entry in figures.REGISTRY.values() if (out / f"{entry.name}.png").is_file()]


def _figure(out: Path, entry: figures.Entry) -> str:
    number = int(entry.name[:2])
    caption = body(out / f"{entry.name}.md")
    files = f"[PDF]({entry.name}.pdf) · [data (CSV)]({entry.name}.csv)"
    return f"### Figure {number}. {entry.title}\n\n![{entry.title}]({entry.name}.png)\n\n{caption}\n\n{files}"


def body(path: Path) -> str:
    """The text of a caption file without its title."""
    return re.sub(r"\A# .*\n+", "", path.read_text(encoding="utf-8")).strip()


def _tables(out: Path) -> str:
    return "\n\n".join(_table(out, entry) for entry in written(out)) or "None was written."


def written(out: Path) -> list[tables.Entry]:
    """The tables in the folder, in reading order."""
    return [entry for entry in tables.REGISTRY.values() if (out / "tables" / f"{entry.name}.md").is_file()]


def caption_and_rows(out: Path, entry: tables.Entry) -> tuple[str, str]:
    """The caption of a table in the folder, and its rows as a Markdown table."""
    caption, _, rows = body(out / "tables" / f"{entry.name}.md").partition("\n\n")
    return caption, rows


def _table(out: Path, entry: tables.Entry) -> str:
    caption, rows = caption_and_rows(out, entry)
    link = f"[CSV](tables/{entry.name}.csv)"
    folded = f"<details><summary>Show the table</summary>\n\n{rows}\n\n</details>"
    return f"### Table {int(entry.name[:2])}. {entry.title}\n\n{caption}\n\n{folded}\n\n{link}"


def limits(study: StudyData) -> list[str]:
    """What readers must not conclude."""
    rows = selections.plain(study.scores)
    seeds = rows.loc[rows["regime"] != "base", "seed"].nunique()
    lines = [
        f"{_no_public_data(rows)}{_model(study)} The claims are quoted from second-hand sources, because the paper's "
        "full text was not available.",
        "Nothing about patients: no image or answer here is clinical evidence.",
        ("Nothing about training: one model is evaluated as it is. Its intervals cover other images, not other models."
         if study.as_is else
         f"Nothing about other training runs in general: there are {plural(seeds, 'seed')} per regime, one learning "
         "rate and one number of epochs. Regimes are compared after the same images, not after the same number of "
         "visual tokens (see the figure of training cost) and not at convergence."),
    ]
    if "phantom" in set(rows["dataset"]):
        lines.append(
            "Not how large a gain from resolution is in practice. The phantom is procedural and the sizes of its "
            "deciding details are fixed by design, so its effects show direction and mechanism, not their size "
            "elsewhere."
        )
    real = [name for name in selections.datasets(rows) if name != "phantom"]
    lines += [f"Not much about {name} alone: {_small(rows[rows['dataset'] == name])}." for name in real]
    return lines


def _no_public_data(rows: pd.DataFrame) -> str:
    """A sentence if the study uses no public data set, else an empty text."""
    public = [name for name, module in datasets.REGISTRY.items() if hasattr(module, "CARD")]
    return "" if set(rows["dataset"]) & set(public) else "Nothing about the paper's own models or data sets. "


def _small(rows: pd.DataFrame) -> str:
    images, groups = rows["image_id"].nunique(), rows["group"].nunique()
    return f"it has {plural(images, 'test image')} from {plural(groups, 'independent source')}"


def not_run(study: StudyData, out: Path) -> list[str]:
    """The regimes, controls, claims, figures and tables that this study lacks."""
    rows = selections.tested(study.scores)
    kinds, controls = set(map(style.kind, rows["regime"].unique())), selections.controls(rows)["control"]
    lines = [f"Training regime {kind}: {words}." for kind, words in REGIMES.items() if kind not in kinds]
    lines = ["Training: the study has no regimes."] if study.as_is else lines
    lines += [f"Control {words}." for name, words in CONTROLS.items() if not (controls == name).any()]
    if not study.claims.empty:
        missing = study.claims[study.claims["verdict"] == "not run"]
        lines += [f"Claim {row.id}: {row.why}" for row in missing.itertuples()]
    lines += tables.claims.not_tested(study)
    present = {*drawn(out), *written(out)}
    lines += [f"Figure: {entry.title}." for entry in figures.REGISTRY.values() if entry not in present]
    absent = [entry for entry in tables.REGISTRY.values() if entry not in present]
    lines += [f"Table: {entry.title}." for entry in absent if entry.applies(study)]
    return lines + [str(line) for line in study.study.get("not_run", ())]


def provenance(study: StudyData) -> list[str]:
    """The study, data, software and checkpoints behind these results; the checkpoints are folded."""
    first, *rest = made_by(study)
    each = checkpoints(study.scores)
    listed = [f"<details><summary>{plural(len(each), 'checkpoint')}</summary>", ""]
    listed += [f"  - {line}" for line in each] + ["", "  </details>"]
    return [first, "\n".join(listed), *rest]


def checkpoints(scores: pd.DataFrame) -> list[str]:
    """Every checkpoint that was evaluated; of local folders only the last part."""
    each = scores.drop_duplicates(["model", "model_revision", "regime", "seed"])
    return [
        f"{row.regime}, seed {row.seed}: `{redact.last(row.model)}`, revision `{row.model_revision}`"
        for row in each.itertuples()
    ]


def made_by(study: StudyData) -> list[str]:
    """The study, its data versions and its software."""
    facts = study.study
    command = f", made by `{facts['command']}`" if "command" in facts else ""
    lines = [f"Study: `{facts.get('name', 'study')}`{command}"]
    lines += [f"{name}: {version}" for name, version in dict(facts.get("data_versions", {})).items()]
    versions = dict(facts.get("versions", {}))
    if versions:
        lines.append("Software: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    lines.append(
        "Every figure is drawn from the CSV next to it; `claims.csv` and `timing.csv` hold verdicts and run times."
    )
    return lines
