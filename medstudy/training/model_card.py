"""The model card of a checkpoint: its resolution, training data and hyperparameters, and what was not tested.

Its facts come from the study, the ledger of realised sizes and the log; huggingface_hub formats it. It contains no
local path: only the last part of a folder's name.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from huggingface_hub import ModelCard, ModelCardData
from pydantic import BaseModel

import medstudy
from medstudy import datasets
from medstudy.data.example import Example
from medstudy.models.stamp import policy_of
from medstudy.params import Study
from medstudy.resolution import describe
from medstudy.utils import redact, yaml_files

HUB = "https://huggingface.co/datasets/"


def card(study: Study, stamp: dict, data: dict[str, Sequence[Example]], ledger: pd.DataFrame, log: pd.DataFrame,
         adapters: bool) -> ModelCard:
    """The card of one training. data: the examples of train and val; ledger, log: as the run writes them."""
    header = ModelCardData(
        license="unknown",
        library_name="peft" if adapters else "transformers",
        pipeline_tag="image-text-to-text",
        base_model=redact.hub_id(study.model.id),
        datasets=[hub for params in study.datasets if (hub := hub_id(params))] or None,
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
    return ModelCard(f"---\n{header.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n")


def hub_id(params: BaseModel) -> str | None:
    """The id of a public data set on the hub, or None."""
    public_card = datasets.card(params)
    on_hub = public_card is not None and public_card.url.startswith(HUB)
    return public_card.url.removeprefix(HUB) if on_hub else None


def resolution(stamp: dict, ledger: pd.DataFrame) -> str:
    """The policy in words, and a table of the realised sizes."""
    policy = policy_of(stamp)
    lines = [f"Trained at: {describe.words(policy)}. Resized by {stamp['interpolation']} interpolation.\n",
             "| shown as | views | height × width, median | largest | visual tokens, median | most |",
             "| --- | ---: | ---: | ---: | ---: | ---: |"]
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
    base = redact.hub_id(study.model.id) or f"`{redact.last(study.model.id)}`, a checkpoint that is on no hub"
    return (
        f"{'LoRA adapters for' if adapters else 'A fine-tuned'} {base} (family {study.model.family}), made by medstudy "
        f"{medstudy.__version__} to study the image resolution at which biomedical multimodal models are trained and "
        "run. Its scores are not in this card: they stand in the study's tables."
    )


def _data(study: Study, data: dict[str, Sequence[Example]]) -> str:
    lines = ["| data set | split | images | questions | licence |", "| --- | --- | ---: | ---: | --- |"]
    for split, examples in data.items():
        for name in dict.fromkeys(example.dataset for example in examples):
            own = [example for example in examples if example.dataset == name]
            licences = ", ".join(sorted({example.license for example in own if example.license})) or "unknown"
            questions = sum(len(example.questions) for example in own)
            lines.append(f"| {name} | {split} | {len(own)} | {questions} | {licences} |")
    return "\n".join(lines)


def _training(stamp: dict, log: pd.DataFrame) -> str:
    last, val_losses = log.iloc[-1], log["val_loss"].dropna()
    validated = f", validation loss {val_losses.iloc[-1]:.4g}" if len(val_losses) else ""
    return (
        f"{len(log)} steps, {last['images_seen']:.0f} views, {last['visual_tokens']:.0f} visual tokens, "
        f"{last['flops']:.3g} FLOPs of the model, seed {stamp['seed']}. Last loss {last['loss']:.4g} nats a "
        f"question{validated}. Precision: {stamp['precision']}."
    )


def _made(study: Study) -> str:
    settings = redact.tree(study.model_dump(mode="json", exclude={"root"}))
    text = yaml_files.dump(settings)
    return (
        f"`python -m medstudy run {study.study}.yaml`, where {study.study}.yaml holds all hyperparameters:\n\n"
        f"```yaml\n{text}```"
    )
