"""Tiny data sets that related systems are trained or tested on, in their sources' formats; see `fixtures_related`.

`MAKERS`: name -> function(folder) -> Params of each data set. The texts are invented, and the images are noise.
"""

from __future__ import annotations

import json
from pathlib import Path

from datasets import Features, Image, List, Value

from medstudy.datasets.benchmarks import geoperception, med_mat, medframeqa
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


MAKERS = {
    "medframeqa": of_medframeqa,
    "geoperception": of_geoperception,
    "med_mat": of_med_mat,
}
