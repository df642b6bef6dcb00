"""The model card of a checkpoint: at which resolution it was trained, on what, how, and what it was not tested for.

Its facts come from the study, the ledger of realised sizes and the log; huggingface_hub formats it. It names no path of
this machine: a folder stands by its last part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from huggingface_hub import ModelCard, ModelCardData

import medstudy
from medstudy import datasets, describe, yaml_files
from medstudy.params import Study
from medstudy.records import Example
from medstudy.stamp import policy_of, public

HUB = "https://huggingface.co/datasets/"


def card(study: Study, stamp: dict, data: dict[str, Sequence[Example]], ledger: pd.DataFrame, log: pd.DataFrame,
         adapters: bool) -> ModelCard:  # fmt: skip
    """The card of one training. data: the examples of train and val; ledger, log: as the run writes them."""
    about = ModelCardData(
        license="unknown",
        library_name="peft" if adapters else "transformers",
        pipeline_tag="image-text-to-text",
        base_model=public(study.model.id),
        datasets=[hub for one in study.datasets if (hub := hub_id(one))] or None,
        tags=["medical", "medstudy", study.model.family, stamp["regime"], *(["lora"] if adapters else [])],
    )
    sections = (
        f"# {study.title}: {stamp['regime']}, seed {stamp['seed']}\n\n{_what(study, adapters)}",
        f"## Resolution\n\n{resolution(stamp, ledger)}",
        f"## Data\n\n{_data(study, data)}",
        f"## Training\n\n{_training(stamp, log)}",
        f"## Not tested\n\n{NOT_TESTED}",
        f"## Made by\n\n{_made(study)}",
    )
    return ModelCard(f"---\n{about.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n")


def hub_id(params) -> str | None:
    """The hub's name of a public data set."""
    found = datasets.card(params)
    return found.url.removeprefix(HUB) if found is not None and found.url.startswith(HUB) else None


def resolution(stamp: dict, ledger: pd.DataFrame) -> str:
    """The policy in words, and what images were really shown at."""
    policy = policy_of(stamp)
    lines = [f"Trained at: {describe.words(policy)}. Resized by {stamp['interpolation']} interpolation.\n",
             "| shown as | views | height × width, median | largest | visual tokens, median | most |",
             "| --- | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for label, rows in ledger.groupby("policy", sort=True):
        median = rows[["shown_height", "shown_width", "visual_tokens"]].median()
        largest = rows.loc[(rows["shown_height"] * rows["shown_width"]).idxmax()]
        lines.append(
            f"| {label} | {len(rows)} | {median['shown_height']:.0f} × {median['shown_width']:.0f} "
            f"| {largest['shown_height']} × {largest['shown_width']} | {median['visual_tokens']:.0f} "
            f"| {rows['visual_tokens'].max()} |"
        )
    lines.append(
        "\nShow it images at this resolution: at another one it may do worse. A processor's own limits of size are not "
        "those of this training; `medstudy.json` has the policy."
    )
    return "\n".join(lines)


NOT_TESTED = (
    "Any use on patients: it is a research model, not a medical device. Other resolutions than the above, other "
    "modalities, institutions, languages and kinds of question than those of its data, images that are damaged or out "
    "of distribution, more than one turn of conversation, fairness between groups of patients, and safety. The licence "
    "is unknown: that of the base model and those of the data hold."
)


def _what(study: Study, adapters: bool) -> str:
    base = public(study.model.id) or f"`{Path(study.model.id).name}`, a checkpoint that is on no hub"
    return (
        f"{'LoRA adapters for' if adapters else 'A fine-tuned'} {base} (family {study.model.family}), made by medstudy "
        f"{medstudy.__version__} to study the image resolution at which biomedical multimodal models are trained and "
        "run. Its scores are not in this card: they stand in the study's tables."
    )


def _data(study: Study, data: dict[str, Sequence[Example]]) -> str:
    lines = ["| data set | split | images | questions | licence |", "| --- | --- | ---: | ---: | --- |"]
    for split, examples in data.items():
        for name in dict.fromkeys(one.dataset for one in examples):
            own = [one for one in examples if one.dataset == name]
            licences = ", ".join(sorted({one.license for one in own if one.license})) or "unknown"
            questions = sum(len(one.questions) for one in own)
            lines.append(f"| {name} | {split} | {len(own)} | {questions} | {licences} |")
    return "\n".join(lines)


def _training(stamp: dict, log: pd.DataFrame) -> str:
    last, checked = log.iloc[-1], log["val_loss"].dropna()
    validated = f", validation loss {checked.iloc[-1]:.4g}" if len(checked) else ""
    return (
        f"{len(log)} steps, {last['images_seen']:.0f} views, {last['visual_tokens']:.0f} visual tokens, "
        f"{last['flops']:.3g} FLOPs of the model, seed {stamp['seed']}. Last loss {last['loss']:.4g} nats a "
        f"question{validated}. Precision: {stamp['precision']}."
    )


def _made(study: Study) -> str:
    settings = scrubbed(study.model_dump(mode="json", exclude={"root"}))
    text = yaml_files.dump(settings)
    return (
        f"`python -m medstudy run {study.study}.yaml`, where {study.study}.yaml holds all hyperparameters:\n\n"
        f"```yaml\n{text}```"
    )


def scrubbed(tree):
    """A tree of parameters in which a path of this machine is its last part."""
    if isinstance(tree, dict):
        return {name: scrubbed(part) for name, part in tree.items()}
    if isinstance(tree, list):
        return [scrubbed(part) for part in tree]
    local = isinstance(tree, str) and tree.startswith(("/", "~", "./", "../"))
    return Path(tree).name if local else tree
