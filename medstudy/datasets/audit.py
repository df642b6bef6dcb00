"""What data hold, and what in them would stop a study, before it spends an hour of a GPU. Nothing is trained.

Every image is read once, one at a time, and only a few hundred bytes of each are kept. A row or image that cannot be
used is listed, and the next one is read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np
import pandas as pd
from PIL import Image

from medstudy import datasets, imaging
from medstudy.data import conflicts, leakage, perceptual_hash
from medstudy.data import references as data_references
from medstudy.data.encoded_image import Picture
from medstudy.data.example import SPLITS, Example
from medstudy.datasets import audit_notices
from medstudy.datasets.user import column_names
from medstudy.datasets.user import rows as user_rows
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
RUNGS = ["dataset", "rung", "images", "changed", "changed_pct", "median_tokens", "most_tokens"]
SPLIT = ["dataset", "split", "images", "questions", "questions_an_image", "most_questions", "groups", "further_images"]
BINDINGS = ["dataset", "table", "role", "column", "how"]
ASKED = ["dataset", "split", "kind", "questions", "fine"]
NOTICES = ["notice", "dataset", "split", "image", "detail"]


class Study(Protocol):
    """What is read of a study here: `medstudy.params.Study` has more."""

    study: str
    datasets: Sequence[datasets.Params]
    inference: Sequence[Single]
    regimes: Sequence[Training]
    leakage: leakage.Rule


@dataclass(frozen=True)
class Report:
    """What was found, a table each.

    about: what the tables rest on. splits: images, questions, groups by split. columns: which column of the user's own
    tables is what, which are not read, and how splits and groups arose. kinds: questions of each kind, and how many of
    them state the size of the detail that decides them (`fine`). sizes: images by native size, between
    the budgets of the ladder. rungs: how many images each rung of the ladder shows at another size than their own,
    and how many visual tokens it takes. problems: what would stop a study (`stops`), and what is left out. leaks:
    pairs of images that stand in two splits. repeats: pairs of images in a split that are the same. notices:
    how images that are no plain 8-bit RGB are read.
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
        """Whether a study on these data would stop."""
        return bool(self.problems["stops"].any())

    def to_dict(self) -> dict:
        """All of it as JSON has it: a table is a list of rows, NaN is null."""
        tables = {name: json.loads(getattr(self, name).to_json(orient="records")) for name in TABLES}
        return {"about": self.about, "stops": self.stops} | tables


def study(params: Study, geometry: Geometry = GEOMETRY, whose: str = "Qwen2-VL's") -> Report:
    """The data sets of a study, at its own rungs. Raises what a source does not list.

    geometry: what the study's model does to an image; whose: which model that is, in words.
    """
    about = {"of": params.study, "geometry": _said(geometry, whose)}
    return _report(_read(params.datasets), params.inference, geometry, about, params.regimes, params.leakage)


def data(params: Sequence[datasets.Params], ladder: Sequence[Single] = LADDER, geometry: Geometry = GEOMETRY) -> Report:
    """Data sets by their params alone, at a ladder that is no study's."""
    about = {"of": ", ".join(map(datasets.label, params)), "geometry": _said(geometry, "Qwen2-VL's")}
    return _report(_read(params), ladder, geometry, about)


@dataclass
class _Found:
    """What is kept of the images while they go by."""

    shown: list[dict] = field(default_factory=list)  # one row an image
    asked: list[dict] = field(default_factory=list)  # one row an example
    prints: list[dict] = field(default_factory=list)
    bindings: list[dict] = field(default_factory=list)
    kinds: Counter = field(default_factory=Counter)  # (dataset, split, kind, whether the detail's size is known)
    seen: dict[str, conflicts.Seen] = field(default_factory=dict)  # by data set
    loaded: list[str] = field(default_factory=list)
    problems: list[dict] = field(default_factory=list)
    notices: list[dict] = field(default_factory=list)
    references: list[dict] = field(default_factory=list)  # one row a question

    def problem(self, problem: str, message, dataset: str, split: str = "", where: str = "", image: str = "",
                stops: bool = True) -> None:
        values = (stops, problem, dataset, split, where, image, str(message))
        self.problems.append(dict(zip(PROBLEMS, values, strict=True)))

    def notice(self, notice: str, dataset: str, split: str, image: str, detail: str) -> None:
        values = (notice, dataset, split, image, detail)
        self.notices.append(dict(zip(NOTICES, values, strict=True)))


def _read(params: Sequence) -> _Found:
    """Every image of every data set, once."""
    found = _Found()
    for one in params:
        label = datasets.label(one)
        examples = _own(one, found) if isinstance(one, user_rows.Own) else _public(one, found)
        for example, where, stops in track(examples, label, unit="image"):
            try:
                _look(example, where, getattr(one, "on_contradiction", "keep") == "stop", found)
            except DataError as error:
                found.problem(_kind(error), error, label, example.split, where, example.image_id, stops)
        if not any(one["problem"] == LOST and one["dataset"] == label for one in found.problems):
            found.loaded.append(label)
    return found


def _own(params: user_rows.Own, found: _Found) -> Iterator[tuple[Example, str, bool]]:
    """The user's own: (example, where its first row stands, whether a fault in it stops a study)."""
    module, label = datasets.REGISTRY[params.name], datasets.label(params)
    stops = params.on_unreadable == "stop"
    try:
        survey = module.survey(params)
    except MedstudyError as error:
        found.problem(LOST, error, label)
        return
    found.bindings += [{"dataset": label} | one for one in survey.bindings]
    for one in survey.bindings:
        if one["how"] == column_names.RESPELT:
            found.notice("column name", label, "", "", f"{one['table']}: {one['column']} is read as the {one['role']}")
    for fault in survey.faults:
        found.problem(fault.problem, fault.message, label, fault.split, fault.where, fault.image, stops)
    opener = module.opener(params)
    for split in SPLITS:
        for entry in survey.chosen(params, split):
            faults: list[user_rows.Fault] = []
            example = user_rows.example(params, entry, opener, faults)
            for fault in faults:
                found.problem(fault.problem, fault.message, label, split, fault.where, fault.image, stops)
            if example:
                yield example, entry.rows[0].where, stops


def _public(params, found: _Found) -> Iterator[tuple[Example, str, bool]]:
    """Any other data set; what it raises ends its split."""
    stops = getattr(params, "on_unreadable", "stop") == "stop"
    split = "groups redrawn (split: group)" if getattr(params, "split", "source") == "group" else "the source's own"
    found.bindings.append(dict(zip(BINDINGS, (datasets.label(params), "all", "splits", "", split), strict=True)))
    for split in SPLITS:
        try:
            for example in datasets.load(params, split):
                yield example, "", stops
        except MedstudyError as error:
            found.problem(LOST, error, datasets.label(params), split)


def _look(example: Example, where: str, single: bool, found: _Found) -> None:
    """One example: its images decoded one after the other, its questions counted. Raises ImageError.

    single: whether contradictions among test questions stop a study.
    """
    names = [_called(image, example) for image in example.images]
    shown = [{"height": image.height, "width": image.width} for image in example.images]
    prints = perceptual_hash.rows_of(example, (_pil(image) for image in example.images))
    about = {"dataset": example.dataset, "split": example.split, "image_id": example.image_id}
    where_it_is = (example.dataset, example.split)
    for place, (image, name, size) in enumerate(zip(example.images, names, shown, strict=True)):
        facts = getattr(image, "facts", None)
        if isinstance(image, Picture):
            facts = facts or imaging.describe(image.data, name=name)
        for notice, detail in audit_notices.of_image(facts, Size(**size)):
            found.notice(notice, *where_it_is, name, detail)
        if max(size.values()) > MAX_ASPECT * min(size.values()):
            message = f"Sides may be as 1 to {MAX_ASPECT} at most, but are {size['height']} x {size['width']}. Crop it."
            found.problem("aspect", message, example.dataset, example.split, where, name)
        found.shown.append(about | size | {"place": place})
    for question in example.questions:
        if not question.answer.strip() or not question.text.strip():
            message = f"A question needs a text and an answer, but {question.id!r} lacks one. Fill it in, or remove it."
            found.problem("empty answer", message, example.dataset, example.split, where, example.image_id)
        found.references.append({"dataset": example.dataset, "question_id": question.id} | vars(question))
        found.kinds[(*where_it_is, question.kind, question.detail_px is not None)] += 1
    for row in found.seen.setdefault(example.dataset, conflicts.Seen()).add(example, prints):
        message = conflicts.message(row)
        if row["conflict"] == "contradiction":
            stops = single and conflicts.stops(row)
            found.problem("contradiction", message, *where_it_is, where, example.image_id, stops)
        else:
            found.notice(row["conflict"], *where_it_is, example.image_id, message)
    found.prints += prints
    found.asked.append(about | {"group": example.group, "questions": len(example.questions)})


def _report(found: _Found, ladder: Sequence[Single], geometry: Geometry, about: dict, policies: Sequence[Training] = (),
            rule: leakage.Rule | None = None) -> Report:
    shown = pd.DataFrame(found.shown, columns=["dataset", "split", "image_id", "place", "height", "width"])
    asked = pd.DataFrame(found.asked, columns=["dataset", "split", "image_id", "group", "questions"])
    prints = pd.DataFrame(found.prints, columns=perceptual_hash.COLUMNS)
    leaks, repeats = _copies(prints, rule, found)
    learnt = shown.loc[shown["split"] == "train", ["height", "width"]]
    sizes = [Size(*pair) for pair in learnt.itertuples(index=False)]
    narrow = [size for size in sizes if max(size) <= MAX_ASPECT * min(size)]
    for policy in policies:
        try:
            check_effect(policy, narrow, geometry)
        except ResolutionError as error:
            found.problem("no effect", error, "all")
    _empties(asked, found)
    _references(found)
    rungs = [_rung(name, rows, one, geometry) for name, rows in shown.groupby("dataset", sort=False) for one in ladder]
    problems = pd.DataFrame(found.problems, columns=PROBLEMS).astype({"stops": bool})
    return Report(
        about | {"ladder": [one.label for one in ladder], "images": len(shown),
                 "questions": int(asked["questions"].sum())},
        _splits(asked, shown), pd.DataFrame(found.bindings, columns=BINDINGS), _kinds(found.kinds),
        _strata(shown, ladder), pd.DataFrame(rungs, columns=RUNGS),
        problems.sort_values("stops", ascending=False, kind="stable", ignore_index=True),
        leaks, repeats, pd.DataFrame(found.notices, columns=NOTICES),
    )


def _references(found: _Found) -> None:
    """References that cannot be scored stop a study; those that count as one answer are notices."""
    if not found.references:
        return
    for one in data_references.check(pd.DataFrame(found.references)).itertuples():
        message = f"{one.kind} {one.question_id}: {one.message}"
        if one.stops:
            found.problem(one.problem, message, one.dataset)
        else:
            found.notice(one.problem, one.dataset, "", "", message)


def _splits(asked: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """One row a split: images with questions, questions, questions an image, groups, images of every place."""
    rows = [
        {"dataset": dataset, "split": split, "images": len(rows), "questions": int(rows["questions"].sum()),
         "questions_an_image": float(rows["questions"].mean()), "most_questions": int(rows["questions"].max()),
         "groups": rows["group"].nunique(),
         "further_images": int(((shown["dataset"] == dataset) & (shown["split"] == split)).sum()) - len(rows)}
        for (dataset, split), rows in asked.groupby(["dataset", "split"], sort=False)
    ]
    return pd.DataFrame(rows, columns=SPLIT)


def _kinds(counts: Counter) -> pd.DataFrame:
    """One row a split and kind of question: how many there are, and how many state the size of their detail."""
    rows = Counter({key[:3]: 0 for key in counts})
    for key, count in counts.items():
        rows[key[:3]] += count
    return pd.DataFrame([(*key, count, counts[(*key, True)]) for key, count in rows.items()], columns=ASKED)


def _strata(shown: pd.DataFrame, ladder) -> pd.DataFrame:
    """One row a split and stratum of native pixels, cut at the budgets of the ladder."""
    edges = [0, *sorted({policy.budget for policy in ladder}), np.inf]
    sides = [f"{round(np.sqrt(edge))}²" for edge in edges[1:-1]]
    names = [f"up to {sides[0]}", *(f"{a} to {b}" for a, b in pairwise(sides)), f"above {sides[-1]}"]
    strata = pd.cut((shown["height"] * shown["width"]).astype(float), edges, labels=names)
    table = shown.assign(native_px=strata).groupby(["dataset", "split", "native_px"], sort=False, observed=True)
    counts = table.size().rename("images").reset_index().astype({"native_px": str})
    total = counts.groupby(["dataset", "split"])["images"].transform("sum")
    order = {"dataset": list(shown["dataset"].unique()).index, "split": SPLITS.index, "native_px": names.index}
    made = counts.assign(share_pct=100 * counts["images"] / total)
    return made.sort_values(list(order), key=lambda column: column.map(order[column.name]), ignore_index=True)


def _rung(dataset: str, shown: pd.DataFrame, policy: Single, geometry: Geometry) -> dict:
    """What a rung makes of a data set's images; `changed` ones are shown at another size than without any cap."""
    counts = shown.groupby(["height", "width"]).size()
    changed, tokens, left_out = 0, [], 0
    for pair, count in counts.items():
        size = Size(*map(int, pair))
        try:
            view = policy.view(size, geometry)
        except ResolutionError:
            left_out += count
            continue
        uncapped = Native(max_pixels=size.pixels + geometry.factor**2 * 64, rounding=policy.rounding)
        native = uncapped.view(size, geometry)
        changed += count * ((view.size, view.steps) != (native.size, native.steps))
        tokens += [view.visual_tokens] * count
    images_ = len(shown) - left_out
    return {
        "dataset": dataset, "rung": policy.label, "images": images_, "changed": int(changed),
        "changed_pct": 100 * changed / images_ if images_ else np.nan,
        "median_tokens": float(np.median(tokens)) if tokens else np.nan, "most_tokens": max(tokens, default=0),
    }


def _copies(prints: pd.DataFrame, rule, found: _Found) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images that stand in two splits, counted, and pairs of the same in one; a leak that is not allowed is a problem.

    rule: the study's `leakage` (`distance`, `likeness`, `allow`), if it states one.
    """
    limits = {"distance": rule.distance, "likeness": rule.likeness} if rule is not None else {}
    pairs = leakage.find(prints, **limits) if len(prints) else pd.DataFrame(columns=list(leakage.COLUMNS))
    leaks = leakage.leaks(pairs)
    reasons = {(one.evaluated, one.trained or one.evaluated): one.reason for one in getattr(rule, "allow", ())}
    for pair in leaks.itertuples():
        reason = reasons.get((pair.dataset_b, pair.dataset_a), "")
        what = {"exact": "The same pixels", "near": "Nearly the same", "group": f"The same group, {pair.group_a},"}
        elsewhere = f"{pair.image_a} in {pair.split_a}" + f" of {pair.dataset_a}" * (pair.dataset_a != pair.dataset_b)
        message = f"{what[pair.kind]} as {elsewhere}." + f" Allowed: {reason}" * bool(reason)
        found.problem(f"leak ({pair.kind})", message, pair.dataset_b, pair.split_b, "", pair.image_b, not reason)
    return leaks, leakage.repeats(pairs)


def _empties(asked: pd.DataFrame, found: _Found) -> None:
    """Splits that a study needs and that have no image, of the data sets that could be loaded."""
    for dataset in found.loaded:
        there = set(asked.loc[asked["dataset"] == dataset, "split"])
        if "test" not in there:
            found.problem("empty split", "A data set needs test images, but has none.", dataset, "test")
        if "train" in there and "val" not in there:
            found.problem("empty split", "Training needs images to validate on, but val has none.", dataset, "val")


def _said(geometry: Geometry, whose: str) -> str:
    return f"sides in multiples of {geometry.factor} pixels, {whose}"


def _pil(image) -> Image.Image:
    return Image.fromarray(image.pixels()) if isinstance(image, Picture) else image


def _called(image, example: Example) -> str:
    """What to call an image in a table; the pictures of a public data set have no name of their own."""
    return image.name if isinstance(image, Picture) and len(example.images) > 1 else example.image_id


def _kind(error: DataError) -> str:
    return getattr(error, "problem", "unreadable")


