"""Images that occur twice: in training and in evaluation, in two data sets, or within one split.

Images are compared by their content. *exact*: the decoded pixels are equal, whatever the file. *near*: the image was
re-encoded, resized, slightly brightened, rotated by a multiple of 90 degrees or flipped. This is judged by the low
frequencies of its cosine transform (DCT): 63 signs find candidates, and 256 weighted coefficients confirm them. The
signs alone would also match different patients in the same pose. *group*: different images of the same `group`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from medstudy.data.example import SPLITS
from medstudy.data.perceptual_hash import KEPT, fingerprints, orientations
from medstudy.errors import DataError

__all__ = ["check", "counts", "find", "fingerprints", "leaks", "overview", "repeats", "sentences"]

DISTANCE, LIKENESS = 8, 0.95
BLOCK = 128  # rows compared with all others at once
CHUNK = 20_000  # pairs confirmed at once
KINDS = ("exact", "near", "group")
_WORDS = {"exact": "the same pixels", "near": "nearly", "group": "by their group only"}
ABOUT = ("dataset", "split", "image", "group")
NONE = "–"
COLUMNS = ("kind", "distance", "likeness", *(f"{name}_{end}" for end in "ab" for name in ABOUT))


class Allowed(Protocol):
    """A leak that a study admits (`medstudy.params.Allowed`)."""

    evaluated: str
    trained: str | None
    reason: str


class Rule(Protocol):
    """When two images count as the same, and which leaks a study admits (`medstudy.params.Leakage`)."""

    distance: int
    likeness: float
    allow: Sequence[Allowed]


def find(table: pd.DataFrame, distance: int = DISTANCE, likeness: float = LIKENESS) -> pd.DataFrame:
    """Pairs of images that are the same, or of the same group in two splits; columns `COLUMNS`.

    table: rows of `fingerprints` of one or several data sets. Each image is paired with its nearest match in each other
    split of each data set, and with an earlier match in its own split, so even an image with many copies gives few
    pairs. Image a belongs to the earlier split in the order train, val, test. distance: at most this
    many of the 63 signs differ.
    likeness: at least this cosine of the coefficients, which are weighted by frequency so that features common to all
    images of a kind count little.
    """
    table = table.reset_index(drop=True)
    # Link each image to the first image of each split that shows the same, or has the same group.
    links = pd.concat([_links(table, _classes(table, distance, likeness)), _group_links(table)], ignore_index=True)
    # Images of one prompt belong together: they are no copies.
    example = _examples(table)
    links = links[example[links["i"]] != example[links["j"]]]
    # Within a split, keep links to earlier images only, and none by group.
    within = links["cell_i"] == links["cell_j"]
    links = links[~within | ((links["j"] < links["i"]) & (links["kind"] < 2))]
    # Of each image's links into a split, keep the closest: exact before near before group.
    order = ["i", "cell_j", "kind", "distance", "likeness"]
    links = links.sort_values(order, ascending=[True] * 4 + [False])
    links = links.drop_duplicates(["i", "cell_j"])
    # Name the image of the earlier split a, so that a pair found from both of its ends is one pair.
    rank = table["split"].map(SPLITS.index).to_numpy()
    swap = (rank[links["i"]] > rank[links["j"]]) | ((rank[links["i"]] == rank[links["j"]]) & (links["i"] > links["j"]))
    links["a"], links["b"] = links["i"].where(~swap, links["j"]), links["j"].where(~swap, links["i"])
    links = links.sort_values(["a", "b"]).drop_duplicates(["a", "b"])
    return _named(table, links)


def leaks(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs across splits, of one data set or two: one image is trained or selected on, the other evaluated."""
    return pairs[pairs["split_a"] != pairs["split_b"]].reset_index(drop=True)


def repeats(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs within a split, of one data set or two: such an image counts twice."""
    return pairs[pairs["split_a"] == pairs["split_b"]].reset_index(drop=True)


def counts(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """How many images of a split are also in another: one row for each pair of splits that share any.

    Columns: dataset, split, images (all of the split), of_dataset, of_split, exact, near, group, share_pct (all three).
    """
    # Each image once for each pair of splits, by its closest kind.
    keys = ["dataset_b", "split_b", "dataset_a", "split_a"]
    images = pairs.drop_duplicates([*keys, "image_b", "kind"])
    images = images.sort_values("kind", key=lambda kinds: kinds.map(KINDS.index)).drop_duplicates([*keys, "image_b"])
    shared = images.groupby([*keys, "kind"]).size().unstack(fill_value=0).reindex(columns=KINDS, fill_value=0)
    shared = shared.rename_axis(columns=None).reset_index()
    shared = shared.rename(columns={"dataset_b": "dataset", "split_b": "split", "dataset_a": "of_dataset",
                                    "split_a": "of_split"})
    shared = shared.merge(_sizes(table), on=["dataset", "split"], how="left")
    shared["share_pct"] = 100 * shared[list(KINDS)].sum(axis=1) / shared["images"]
    return shared[["dataset", "split", "images", "of_dataset", "of_split", *KINDS, "share_pct"]]


def _sizes(table: pd.DataFrame) -> pd.DataFrame:
    """dataset, split, images: the number of images in each split."""
    return table.groupby(["dataset", "split"], sort=False)["image_id"].nunique().rename("images").reset_index()


def overview(table: pd.DataFrame, pairs: pd.DataFrame, allow: Iterable[Allowed] = ()) -> pd.DataFrame:
    """`counts` of the leaks, and a row of zeros for each other val and test split.

    repeats: images that repeat another image of the same split. allowed: the reason of the member of `allow` that
    admits the leak, or empty.
    """
    leaking = counts(table, leaks(pairs))
    reasons = {(leak.evaluated, leak.trained or leak.evaluated): leak.reason for leak in allow}
    ends = zip(leaking["dataset"], leaking["of_dataset"], strict=True)
    leaking["allowed"] = pd.Series([reasons.get(pair, "") for pair in ends], index=leaking.index, dtype=object)
    # The evaluated splits without a leak.
    sizes = _sizes(table)
    clean = sizes[sizes["split"] != SPLITS[0]].merge(leaking[["dataset", "split"]], how="left", indicator=True)
    clean = clean[clean.pop("_merge") == "left_only"]
    zeros = {"of_dataset": NONE, "of_split": NONE, "share_pct": 0.0, "allowed": ""} | dict.fromkeys(KINDS, 0)
    rows = pd.concat([leaking, clean.assign(**zeros)], ignore_index=True)
    # Repeats within each split.
    twice = repeats(pairs)
    twice = twice[twice["dataset_a"] == twice["dataset_b"]].groupby(["dataset_b", "split_b"])["image_b"].nunique()
    rows["repeats"] = [int(twice.get(split, 0)) for split in zip(rows["dataset"], rows["split"], strict=True)]
    return rows.sort_values(["dataset", "split", "of_dataset", "of_split"], ignore_index=True)


def check(table: pd.DataFrame) -> None:
    """Raise DataError with counts of the leaks in an `overview` that are not allowed; it names no image."""
    wrong = _leaking(table).query("allowed == ''")
    if wrong.empty:
        return
    lines = "\n".join(f"  {_counted(row)}" for row in wrong.itertuples())
    first = wrong.iloc[0]
    of = "" if first["of_dataset"] == first["dataset"] else f"trained: {first['of_dataset']}, "
    raise DataError(
        f"No image may be in both training and evaluation, and no group in two splits, but:\n{lines}\n"
        "`python -m medstudy data check` on the study's params lists them. Set `split: group` if the data set splits "
        "by question, remove the images, or admit the leak in the params, "
        f"and every figure, table and claim will state it: leakage: {{allow: [{{evaluated: {first['dataset']}, {of}"
        "reason: ...}]}"
    )


def sentences(table: pd.DataFrame) -> dict[str, list[str]]:
    """For each evaluated data set, a sentence on each leak of an `overview` that was allowed."""
    by_data_set: dict[str, list[str]] = {}
    for row in _leaking(table).itertuples():
        by_data_set.setdefault(row.dataset, []).append(f"Leak: {_counted(row)}. Allowed: {row.allowed.rstrip('.')}.")
    return by_data_set


def _leaking(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of an `overview` that have a leak."""
    return table[table["of_dataset"] != NONE] if len(table) else table


def _counted(row: NamedTuple) -> str:
    kinds = ", ".join(f"{getattr(row, kind)} {word}" for kind, word in _WORDS.items() if getattr(row, kind))
    total = sum(getattr(row, kind) for kind in KINDS)
    return (f"{total} of {row.images} {row.split} images of {row.dataset} are also in {row.of_split} of "
            f"{row.of_dataset} ({kinds})")


def _classes(table: pd.DataFrame, distance: int, likeness: float) -> pd.DataFrame:
    """Pairs of classes of identical images: x, y (y is x: the class itself), kind, distance, likeness."""
    # Number the classes of images with equal pixels, and take one image of each.
    label = pd.factorize(table["exact"])[0]
    first = pd.Series(label).drop_duplicates().index.to_numpy()  # class k has its first image at first[k]
    itself = pd.DataFrame({"x": label[first], "y": label[first], "kind": 0, "distance": 0, "likeness": 1.0})
    # Flat images have no hash: they match by pixels only.
    classes = np.flatnonzero(table["near"].iloc[first].notna().to_numpy())
    if len(classes) < 2:
        return itself
    # Candidates by the signs, confirmed by the cosine of their coefficients.
    rows = table.iloc[first[classes]]
    hashes = np.array(rows["near"].tolist(), np.uint64)  # [n, 8]
    detail = np.stack([np.frombuffer(coefficients, np.int8) for coefficients in rows["detail"]]).astype(np.float32)
    detail /= np.linalg.norm(detail, axis=1, keepdims=True)
    parts = [itself]
    for x, y, apart in _close(hashes, distance):
        like = _likeness(detail, x, y)
        kept = like >= likeness
        parts.append(pd.DataFrame({"x": classes[x[kept]], "y": classes[y[kept]], "kind": 1,
                                   "distance": apart[kept], "likeness": like[kept]}))
    return pd.concat(parts, ignore_index=True)


def _close(hashes: np.ndarray, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Blocks of (x, y, differing bits), x < y: all pairs at most `distance` apart in one of the 8 orientations.

    All pairs are compared, 30,000 images in 4 s on one core, so there are no buckets that similar images could fill.
    """
    columns = np.ascontiguousarray(hashes.T)  # [8, n]
    for start in range(0, len(hashes) - 1, BLOCK):
        rows = columns[0, start : start + BLOCK, None]
        apart = np.bitwise_count(rows ^ columns[0, None, start:])
        for turned in columns[1:, None, start:]:
            np.minimum(apart, np.bitwise_count(rows ^ turned), out=apart)
        x, y = np.nonzero(apart <= distance)
        later = y > x
        x, y = x[later], y[later]
        if len(x):
            yield x + start, y + start, apart[x, y].astype(int)


def _likeness(detail: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[pairs] the greatest cosine of x with any orientation of y; detail [n, 256] of unit length."""
    greatest = np.empty(len(x), np.float32)
    for start in range(0, len(x), CHUNK):
        part = slice(start, start + CHUNK)
        left, right = detail[x[part]], detail[y[part]].reshape(-1, KEPT, KEPT)
        greatest[part] = np.max([np.einsum("nk,nk->n", left, turned.reshape(len(left), -1))
                                 for turned in orientations(right)], axis=0)
    return greatest


def _links(table: pd.DataFrame, classes: pd.DataFrame) -> pd.DataFrame:
    """Links from each image i to the first image j of its class, or of a near class, in each split."""
    members = pd.DataFrame({"i": table.index, "x": pd.factorize(table["exact"])[0], "cell_i": _cells(table)})
    firsts = members.drop_duplicates(["x", "cell_i"]).rename(columns={"i": "j", "x": "y", "cell_i": "cell_j"})
    other = classes[classes["x"] != classes["y"]].rename(columns={"x": "y", "y": "x"})
    return members.merge(pd.concat([classes, other], ignore_index=True), on="x").merge(firsts, on="y")


def _group_links(table: pd.DataFrame) -> pd.DataFrame:
    """Links from each image to the first image of its group in each other split of its data set."""
    members = pd.DataFrame({"i": table.index, "cell_i": _cells(table), "dataset": table["dataset"],
                            "group": table["group"]})
    spread = members.groupby(["dataset", "group"])["cell_i"].transform("nunique") > 1
    members = members[spread]
    firsts = members.drop_duplicates(["dataset", "group", "cell_i"]).rename(columns={"i": "j", "cell_i": "cell_j"})
    return members.merge(firsts, on=["dataset", "group"]).assign(kind=2, distance=np.nan, likeness=np.nan)


def _named(table: pd.DataFrame, links: pd.DataFrame) -> pd.DataFrame:
    parts = {"kind": np.array(KINDS)[links["kind"].astype(int)], "distance": links["distance"].to_numpy(float),
             "likeness": links["likeness"].to_numpy(float)}
    for end in "ab":
        for name in ABOUT:
            parts[f"{name}_{end}"] = table["image_id" if name == "image" else name].to_numpy()[links[end]]
    return pd.DataFrame(parts, columns=list(COLUMNS))


def _cells(table: pd.DataFrame) -> np.ndarray:
    """A number for each row's (data set, split)."""
    return table.groupby(["dataset", "split"], sort=False).ngroup().to_numpy()


def _examples(table: pd.DataFrame) -> np.ndarray:
    """A number for each row's example, whose images share a prompt."""
    return table.groupby(["dataset", "split", "image_id"], sort=False).ngroup().to_numpy()
