"""An audit of data sets: what they hold, and which problems would stop a study. Nothing is trained.

Every image is decoded once, one at a time, and only a few hundred bytes of each are kept. A row or image that cannot be
used is listed, and the audit goes on with the next.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pandas as pd
from PIL import Image

from medstudy import datasets, imaging
from medstudy.data import conflicts, leakage, perceptual_hash, references
from medstudy.data.encoded_image import Picture
from medstudy.data.example import SPLITS, Example
from medstudy.datasets import audit_counts, audit_notices
from medstudy.datasets.user import column_names
from medstudy.datasets.user import examples as user_examples
from medstudy.datasets.user.params import UserData
from medstudy.datasets.user.rows import Fault
from medstudy.errors import DataError, MedstudyError, ResolutionError
from medstudy.resolution.plan import check_effect
from medstudy.resolution.policies import Fixed, Native, Single, Training
from medstudy.resolution.sizes import MAX_ASPECT, Geometry, Size
from medstudy.utils.progress import track

LADDER = (*(Fixed(side=side) for side in (224, 448, 672, 896)), Native(max_pixels=audit_notices.LARGE))
GEOMETRY = Geometry(28, 784)  # Qwen2-VL's
LOST = "cannot be loaded"
TABLES = ("splits", "columns", "kinds", "sizes", "rungs", "problems", "leaks", "repeats", "notices")
PROBLEMS = ["stops", "problem", "dataset", "split", "where", "image", "message"]
BINDINGS = ["dataset", "table", "role", "column", "how"]
NOTICES = ["notice", "dataset", "split", "image", "detail"]


class Study(Protocol):
    """The part of a study (`medstudy.params.Study`) that an audit reads."""

    study: str
    datasets: Sequence[datasets.Params]
    inference: Sequence[Single]
    regimes: Sequence[Training]
    leakage: leakage.Rule


@dataclass(frozen=True)
class Report:
    """The findings of an audit, one table each.

    about: what the tables describe, and the geometry of the model. splits: images, questions and groups of each split.
    columns: the role of each column of the user's own tables, columns that are not read, and how splits and groups were
    made. kinds: questions of each kind, and how many of them state the size of the detail that decides them (`fine`).
    sizes: images by native size, between the budgets of the ladder. rungs: for each rung of the ladder, how many images
    it resizes, and its visual tokens. problems: what would stop a study (`stops`), and what is left out. leaks: pairs
    of the same image in two splits. repeats: pairs of the same image in one split. notices: how images are read that
    are not plain 8-bit RGB, and other things that stop no study.
    """

    about: dict
    splits: pd.DataFrame
    columns: pd.DataFrame
    kinds: pd.DataFrame
    sizes: pd.DataFrame
    rungs: pd.DataFrame
    problems: pd.DataFrame
    leaks: pd.DataFrame
    repeats: pd.DataFrame
    notices: pd.DataFrame

    @property
    def stops(self) -> bool:
        """Whether a study of these data would stop."""
        return bool(self.problems["stops"].any())

    def to_dict(self) -> dict:
        """The report as JSON: each table is a list of rows, and NaN is null."""
        tables = {name: json.loads(getattr(self, name).to_json(orient="records")) for name in TABLES}
        return {"about": self.about, "stops": self.stops} | tables


def study(params: Study, geometry: Geometry = GEOMETRY, whose: str = "Qwen2-VL's") -> Report:
    """Audit the data sets of a study, at its own rungs. Raises errors of a data set that are no DataError.

    geometry: how the study's model cuts images into tokens. whose: words that name that model.
    """
    about = {"of": params.study, "geometry": _in_words(geometry, whose)}
    return _report(_collect(params.datasets), params.inference, geometry, about, params.regimes, params.leakage)


def data(params: Sequence[datasets.Params], ladder: Sequence[Single] = LADDER, geometry: Geometry = GEOMETRY) -> Report:
    """Audit data sets without a study, at the rungs of `ladder`."""
    about = {"of": ", ".join(map(datasets.label, params)), "geometry": _in_words(geometry, "Qwen2-VL's")}
    return _report(_collect(params), ladder, geometry, about)


def _in_words(geometry: Geometry, whose: str) -> str:
    return f"sides in multiples of {geometry.factor} pixels, {whose}"


@dataclass
class _Collected:
    """What is kept of the examples as they stream by."""

    images: list[dict] = field(default_factory=list)  # one row for each image
    examples: list[dict] = field(default_factory=list)  # one row for each example
    references: list[dict] = field(default_factory=list)  # one row for each question
    prints: list[dict] = field(default_factory=list)
    kinds: Counter = field(default_factory=Counter)  # (dataset, split, kind, whether the detail's size is known)
    conflicts: dict[str, conflicts.Conflicts] = field(default_factory=dict)  # by data set
    bindings: list[dict] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    problems: list[dict] = field(default_factory=list)
    notices: list[dict] = field(default_factory=list)

    def problem(self, problem: str, message: str | Exception, dataset: str, split: str = "", where: str = "",
                image: str = "", stops: bool = True) -> None:
        values = (stops, problem, dataset, split, where, image, str(message))
        self.problems.append(dict(zip(PROBLEMS, values, strict=True)))

    def notice(self, notice: str, dataset: str, split: str, image: str, detail: str) -> None:
        values = (notice, dataset, split, image, detail)
        self.notices.append(dict(zip(NOTICES, values, strict=True)))


def _collect(params: Sequence[datasets.Params]) -> _Collected:
    """Read every image of every data set once."""
    collected = _Collected()
    for each in params:
        label = datasets.label(each)
        read = _read_own if isinstance(each, UserData) else _read_public
        for example, where, stops in track(read(each, collected), label, unit="image"):
            try:
                _inspect(example, where, getattr(each, "on_contradiction", "keep") == "stop", collected)
            except DataError as error:
                problem = getattr(error, "problem", "unreadable")
                collected.problem(problem, error, label, example.split, where, example.image_id, stops)
        if not any(row["problem"] == LOST and row["dataset"] == label for row in collected.problems):
            collected.loaded.append(label)
    return collected


def _read_own(params: UserData, collected: _Collected) -> Iterator[tuple[Example, str, bool]]:
    """(example, place of its first row, whether a fault in it stops a study) of a user's own data."""
    module, label = datasets.REGISTRY[params.name], datasets.label(params)
    stops = params.on_unreadable == "stop"
    try:
        survey = module.survey(params)
    except MedstudyError as error:
        collected.problem(LOST, error, label)
        return
    collected.bindings += [{"dataset": label} | row for row in survey.bindings]
    for row in survey.bindings:
        if row["how"] == column_names.RESPELT:
            detail = f"{row['table']}: {row['column']} is read as the {row['role']}"
            collected.notice("column name", label, "", "", detail)
    for fault in survey.faults:
        collected.problem(fault.problem, fault.message, label, fault.split, fault.where, fault.image, stops)
    opener = module.opener(params)
    for split in SPLITS:
        for entry in survey.chosen(params, split):
            faults: list[Fault] = []
            example = user_examples.example(params, entry, opener, faults)
            for fault in faults:
                collected.problem(fault.problem, fault.message, label, split, fault.where, fault.image, stops)
            if example:
                yield example, entry.rows[0].where, stops


def _read_public(params: datasets.Params, collected: _Collected) -> Iterator[tuple[Example, str, bool]]:
    """The same of any other data set, whose examples have no place. An error ends its split."""
    label, stops = datasets.label(params), getattr(params, "on_unreadable", "stop") == "stop"
    split = "groups redrawn (split: group)" if getattr(params, "split", "source") == "group" else "the source's own"
    collected.bindings.append(dict(zip(BINDINGS, (label, "all", "splits", "", split), strict=True)))
    for split in SPLITS:
        try:
            for example in datasets.load(params, split):
                yield example, "", stops
        except MedstudyError as error:
            collected.problem(LOST, error, label, split)


def _inspect(example: Example, where: str, single: bool, collected: _Collected) -> None:
    """Decode an example's images one by one and count its questions. Raises ImageError.

    single: whether contradictions among test questions stop a study.
    """
    at, about = (example.dataset, example.split), {"dataset": example.dataset, "split": example.split}
    about["image_id"] = example.image_id
    prints = perceptual_hash.rows_of(example, map(_decoded, example.images))
    for place, image in enumerate(example.images):
        _inspect_image(image, _name(image, example), where, at, collected)
        collected.images.append(about | {"height": image.height, "width": image.width, "place": place})
    for question in example.questions:
        if not question.answer.strip() or not question.text.strip():
            message = f"A question needs a text and an answer, but {question.id!r} lacks one. Fill it in, or remove it."
            collected.problem("empty answer", message, *at, where, example.image_id)
        collected.references.append({"dataset": example.dataset, "question_id": question.id} | vars(question))
        collected.kinds[(*at, question.kind, question.detail_px is not None)] += 1
    for row in collected.conflicts.setdefault(example.dataset, conflicts.Conflicts()).add(example, prints):
        message = conflicts.message(row)
        if row["conflict"] == "contradiction":
            stops = single and conflicts.stops(row)
            collected.problem("contradiction", message, *at, where, example.image_id, stops)
        else:
            collected.notice(row["conflict"], *at, example.image_id, message)
    collected.prints += prints
    collected.examples.append(about | {"group": example.group, "questions": len(example.questions)})


def _inspect_image(image: Image.Image | Picture, name: str, where: str, at: tuple[str, str],
                   collected: _Collected) -> None:
    """Note what is unusual in an image's file, and sides that no model can read. at: (dataset, split)."""
    size, facts = Size(image.height, image.width), getattr(image, "facts", None)
    if isinstance(image, Picture):
        facts = facts or imaging.describe(image.data, name=name)
    for notice, detail in audit_notices.of_image(facts, size):
        collected.notice(notice, *at, name, detail)
    if max(size) > MAX_ASPECT * min(size):
        message = f"The sides of an image may be as 1 to {MAX_ASPECT}, but are {size.height} x {size.width}. Crop it."
        collected.problem("aspect", message, *at, where, name)


def _decoded(image: Image.Image | Picture) -> Image.Image:
    return Image.fromarray(image.pixels()) if isinstance(image, Picture) else image


def _name(image: Image.Image | Picture, example: Example) -> str:
    """An image's name in a table; the pictures of a public data set have no name of their own."""
    return image.name if isinstance(image, Picture) and len(example.images) > 1 else example.image_id


def _report(collected: _Collected, ladder: Sequence[Single], geometry: Geometry, about: dict,
            policies: Sequence[Training] = (), rule: leakage.Rule | None = None) -> Report:
    images = pd.DataFrame(collected.images, columns=["dataset", "split", "image_id", "place", "height", "width"])
    examples = pd.DataFrame(collected.examples, columns=["dataset", "split", "image_id", "group", "questions"])
    leaks, repeats = _copies(pd.DataFrame(collected.prints, columns=perceptual_hash.COLUMNS), rule, collected)
    _check_policies(policies, images, geometry, collected)
    _check_splits(examples, collected)
    _check_references(collected)
    problems = pd.DataFrame(collected.problems, columns=PROBLEMS).astype({"stops": bool})
    counts = {"images": len(images), "questions": int(examples["questions"].sum())}
    return Report(
        about=about | {"ladder": [rung.label for rung in ladder]} | counts,
        splits=audit_counts.splits(examples, images),
        columns=pd.DataFrame(collected.bindings, columns=BINDINGS),
        kinds=audit_counts.kinds(collected.kinds),
        sizes=audit_counts.sizes(images, ladder),
        rungs=audit_counts.rungs(images, ladder, geometry),
        problems=problems.sort_values("stops", ascending=False, kind="stable", ignore_index=True),
        leaks=leaks,
        repeats=repeats,
        notices=pd.DataFrame(collected.notices, columns=NOTICES),
    )


def _copies(prints: pd.DataFrame, rule: leakage.Rule | None,
            collected: _Collected) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(leaks, repeats): pairs of the same image in two splits, and in one. A leak that is not allowed is a problem."""
    limits = {"distance": rule.distance, "likeness": rule.likeness} if rule is not None else {}
    pairs = leakage.find(prints, **limits) if len(prints) else pd.DataFrame(columns=list(leakage.COLUMNS))
    leaks = leakage.leaks(pairs)
    allowed = rule.allow if rule is not None else ()
    reasons = {(leak.evaluated, leak.trained or leak.evaluated): leak.reason for leak in allowed}
    for pair in leaks.itertuples():
        reason = reasons.get((pair.dataset_b, pair.dataset_a), "")
        what = {"exact": "The same pixels", "near": "Nearly the same", "group": f"The same group, {pair.group_a},"}
        elsewhere = f"{pair.image_a} in {pair.split_a}" + f" of {pair.dataset_a}" * (pair.dataset_a != pair.dataset_b)
        message = f"{what[pair.kind]} as {elsewhere}." + f" Allowed: {reason}" * bool(reason)
        at = pair.dataset_b, pair.split_b
        collected.problem(f"leak ({pair.kind})", message, *at, "", pair.image_b, not reason)
    return leaks, leakage.repeats(pairs)


def _check_policies(policies: Sequence[Training], images: pd.DataFrame, geometry: Geometry,
                    collected: _Collected) -> None:
    """Note policies that change no training image."""
    trained = images.loc[images["split"] == "train", ["height", "width"]]
    sizes = [Size(*pair) for pair in trained.itertuples(index=False)]
    readable = [size for size in sizes if max(size) <= MAX_ASPECT * min(size)]
    for policy in policies:
        try:
            check_effect(policy, readable, geometry)
        except ResolutionError as error:
            collected.problem("no effect", error, "all")


def _check_splits(examples: pd.DataFrame, collected: _Collected) -> None:
    """Note splits that a study needs and that are empty, in data sets that could be loaded."""
    for dataset in collected.loaded:
        filled = set(examples.loc[examples["dataset"] == dataset, "split"])
        if "test" not in filled:
            collected.problem("empty split", "A data set needs test images, but has none.", dataset, "test")
        if "train" in filled and "val" not in filled:
            collected.problem("empty split", "Training needs validation images, but val has none.", dataset, "val")


def _check_references(collected: _Collected) -> None:
    """Note references that cannot be scored, which stop a study, and references that count as the same answer."""
    if not collected.references:
        return
    for finding in references.check(pd.DataFrame(collected.references)).itertuples():
        message = f"{finding.kind} {finding.question_id}: {finding.message}"
        if finding.stops:
            collected.problem(finding.problem, message, finding.dataset)
        else:
            collected.notice(finding.problem, finding.dataset, "", "", message)
