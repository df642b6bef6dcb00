"""Tiny data sets that related systems are trained or tested on, in their sources' formats; see `fixtures_related`.

`MAKERS`: name -> function(folder) -> Params of each data set. The texts are invented, and the images are noise.
"""

from __future__ import annotations

import json
from pathlib import Path

from datasets import Features, Image, List, Value

from medstudy.datasets.benchmarks import geoperception, iu_xray, med_mat, medframeqa, medmultipoints
from tests.support import hub
from tests.support.fixtures_related import image, write

TEXT, NUMBER = Value("string"), Value("int64")
REQUEST = "Answer with the option's letter from the given choices directly."  # in every row of Med-MAT


def of_medframeqa(folder: Path) -> medframeqa.Params:
    """Two questions about one video with three and two frames, one with five; empty columns after the last frame."""
    features = Features(
        {name: TEXT for name in ("question_id", "system", "organ", "keyword", "modality", "video_id", "question")}
        | {"options": List(TEXT), "image_url": List(TEXT), "correct_answer": TEXT, "reasoning_chain": TEXT}
        | {name: Image() for name in medframeqa.IMAGES}
    )
    options = ["Hydrocephalus ", "Glioma", "Normal pressure", "Infarct", "Abscess", "None of these"]
    rows = [
        {
            "question_id": f"q{n:04d}", "system": "central nervous system", "organ": "brain", "keyword": "glioma",
            "modality": "MRI", "video_id": video, "question": " Which finding do the frames share? ",
            "options": options[: 4 + n], "image_url": [], "correct_answer": "ABF"[n], "reasoning_chain": "First, …",
            **{name: hub.encoded(10 * n + place, (40 + place, 60)) if place < frames else None
               for place, name in enumerate(medframeqa.IMAGES)},
        }
        for n, (video, frames) in enumerate((("v1", 3), ("v1", 2), ("v2", 5)))
    ]
    return medframeqa.Params(path=str(hub.repository(folder, {"test": rows}, features)))


def of_geoperception(folder: Path) -> geoperception.Params:
    """Every predicate, an RGBA image, a line named from its other end, an answer that is empty, figures that repeat."""
    features = Features({"id": TEXT, "question": TEXT, "answer": TEXT, "predicate": TEXT, "image": Image()})
    asked = [
        ("What is the point lying on line UR?", "S", "PointLiesOnLine"),
        ("What is the point lying on line EA?", "F, G, B, D", "PointLiesOnLine"),
        ("What is the point lying on circle with center R?", "T, V, S, U", "PointLiesOnCircle"),
        ("Is angle BAC acute or obtuse?", "acute", "AngleClassification"),
        ("Which line is longer, AC or BA?", "AB", "LineComparison"),
        ("What is the measure of angle BAC as annotated?", "2x+4", "Equals"),
        ("What is the line parallel to line AB?", "CD, DC", "Parallel"),
        ("What is the line perpendicular to line AB?", "", "Perpendicular"),
        ("What is the length of line AB as annotated?", "", "Equals"),
    ]
    rows = [
        {"id": f"{n:010d}", "question": question, "answer": answer, "predicate": predicate,
         "image": hub.encoded(n % 3, kind="PNG", mode="RGBA" if n % 3 == 1 else "RGB")}
        for n, (question, answer, predicate) in enumerate(asked)
    ]
    return geoperception.Params(path=str(hub.repository(folder, {"train": rows}, features)))


def of_med_mat(folder: Path) -> med_mat.Params:
    """Two subsets, one image in both, two and four options, and a space in an image's name."""
    def row(number: int, picture: str, question: str, options: list[str], right: str) -> dict:
        listed = "\n".join(f"{letter}: {text}" for letter, text in zip("ABCD", options, strict=False))
        return {
            "id": number, "caption": options["ABCD".index(right)], "image": f"med-mat/{picture}", "Question": question,
            "Answer": options["ABCD".index(right)], "Answer-choice": right, "data-no": "2",
            "Question-choice": f"{question}\n{listed}\n{REQUEST}",
        }

    kidney = [
        row(n + 1, f"CT_Kindney_Dataset/Cyst/Cyst- ({n}).jpg", "Review this kidney CT scan:\nwhat does it show?",
            ["Stone", "Cyst", "Normal", "Tumor"], "ABCD"[n % 4])
        for n in range(12)
    ]
    lung = [row(1, kidney[0]["image"].partition("/")[2], "Is it COVID-19?", ["COVID", "NonCOVID"], "B")]
    for number, rows in (("02", kidney), ("03", lung)):
        write(folder / "Aggregated_Subsets" / f"Subset--{number}-train.json", json.dumps(rows, indent=4))
    for number, found in enumerate(kidney):
        write(folder / found["image"], image(number, size=(40, 56), mode="L"))
    return med_mat.Params(path=str(folder), test_share=0.4, val_share=0.2)


def of_medmultipoints(folder: Path) -> medmultipoints.Params:
    """Arrow files that the card lists, the authors' name of the image column, an image with two labels, none found."""
    pair = List(List(Value("float64")))
    features = Features({
        "image_data": Image(), "image_sha256": TEXT, "img_size": List(NUMBER), "points": pair, "bbox": pair,
        "count": NUMBER, "label": TEXT, "collection_method": TEXT, "classification": TEXT, "organ": TEXT,
    })
    found = [
        (0, "polyps", [[10, 5, 40, 33]], "Lower GI"), (1, "normal", [[2, 3, 6, 9], [50, 20, 57.5, 31]], "Microscopy"),
        (1, "cluster", [[30, 4, 44, 18]], "Microscopy"), (2, "instrument", [], "Lower GI"),
    ]
    rows = [
        {
            "image_data": hub.encoded(seed, kind="PNG"), "image_sha256": f"{seed:064d}", "img_size": [80, 60],
            "points": [[(x0 + x1) / 2, (y0 + y1) / 2] for x0, y0, x1, y1 in boxes], "bbox": boxes, "count": len(boxes),
            "label": label, "collection_method": "counting", "classification": "pathological-findings", "organ": organ,
        }
        for seed, label, boxes, organ in found
    ]
    script = "kvasir-points_datasets_script"
    for number, part in enumerate((rows[:2], rows[2:])):
        hub.shard(folder / f"{script}-train-{number:05d}-of-00002.arrow", part, features)
    write(folder / f"{script}.py", "raise SystemExit('no code of a data set is run')")
    card = f"configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {script}-train-*.arrow\n"
    write(folder / "README.md", f"---\n{card}---\n")
    return medmultipoints.Params(path=str(folder))


def of_iu_xray(folder: Path) -> iu_xray.Params:
    """Three splits of studies with two views, one and three, XXXX in a report, an image that no report names."""
    reports = [
        "The heart is  normal in size. No pneumothorax or XXXX pleural effusion.", "Cardiomegaly. Lungs are clear.",
        "Small left pleural effusion. The heart is enlarged.",
    ]
    content = {}
    for first, split in enumerate(("train", "val", "test")):
        content[split] = [
            {"id": f"CXR{first}{n}_IM-{n:04d}", "report": report, "split": split,
             "image_path": [f"CXR{first}{n}_IM-{n:04d}/{view}.png" for view in range((2, 1, 3)[n])]}
            for n, report in enumerate(reports)
        ]
    write(folder / "annotation.json", json.dumps(content))
    names = [name for rows in content.values() for row in rows for name in row["image_path"]]
    for seed, name in enumerate([*names, "CXR99_IM-0099/0.png"]):
        write(folder / "images" / name, image(seed, "PNG", size=(50 + seed % 7, 40), mode="L"))
    return iu_xray.Params(path=str(folder))


MAKERS = {
    "medframeqa": of_medframeqa,
    "geoperception": of_geoperception,
    "med_mat": of_med_mat,
    "medmultipoints": of_medmultipoints,
    "iu_xray": of_iu_xray,
}
