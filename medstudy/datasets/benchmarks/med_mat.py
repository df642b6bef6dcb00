"""Med-MAT: classification data sets as choices, by modality, anatomical area and task (arXiv 2412.20070).

A folder as `FreedomIntelligence/Med-MAT` describes it: Aggregated_Subsets/Subset--NN-train.json from the hub, and
med-mat/ with the images, which each data set's own site provides. A subset is one combination of modality, area and
task; these are tags, by which a study splits its results. The files have training rows only, so the splits are drawn by
image (`split: group`). Many images are also in other public data sets: a study with both reports them as leaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from medstudy.data import splits
from medstudy.data.example import Example, Question
from medstudy.data.readers import archives, files, grouping
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import lettered
from medstudy.data.readers.source import Source
from medstudy.errors import DataError

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/FreedomIntelligence/Med-MAT",
    license="Apache-2.0 (questions); images of each data set, see the card",
    splits=("train",),
    schema_from="FreedomIntelligence/Med-MAT: README (its sample row, folders and table of subsets); no file was seen",
)
COLUMNS = {
    "id": "the row's",
    "image": "the image, below the folder",
    "Question-choice": "the question, its options by letter, and the request for a letter",
    "Answer-choice": "the letter of the right option",
    "data-no": "the number of the data set that the image is from",
}
FOLDER = "Aggregated_Subsets"
OPTION = re.compile(r"^([A-J]): (.*)$", re.MULTILINE)
SUBSETS = {  # number -> modality, area, task; those with public questions
    "01": ("Co", "Cervix", "Cervical Picture Quality Evaluation"),
    "02": ("CT", "Kidney", "Kidney Diseases Classification"),
    "03": ("CT", "Lung", "COVID-19 Classification"),
    "04": ("CT", "Lung", "Lung Cancer Classification"),
    "05": ("CT", "Brain", "Brain Hemorrhage Classification"),
    "06": ("CT", "Brain", "Brain Cancer Classification"),
    "07": ("Der", "Skin", "Melanoma Type Classification"),
    "08": ("Der", "Skin", "Skin Diseases Classification"),
    "09": ("DP", "Mouth", "Teeth Condition Classification"),
    "10": ("DP", "Mouth", "Oral Cancer Classification"),
    "11": ("End", "Intestine", "Intestine Cleanliness Level"),
    "12": ("End", "Bladder", "Cancer Degree Classification"),
    "13": ("End", "Intestine", "Intestine Diseases Classification"),
    "14": ("FP", "Fundus", "Eye Diseases Classification"),
    "15": ("FP", "Fundus", "Multiple-labels Eye Diseases Classification"),
    "16": ("FP", "Fundus", "Blindness Level"),
    "17": ("FP", "Fundus", "Retinal Images Quality Evaluation"),
    "18": ("Mic", "Cell", "Cell Type Classification"),
    "19": ("Mic", "Cell", "Prostate Cancer Degree Classification"),
    "20": ("Mic", "Cell", "Multiple-labels Blood Cell Classification"),
    "21": ("Mic", "Cell", "Cancer Classification"),
    "22": ("MRI", "Brain", "Head Diseases Classification"),
    "23": ("OCT", "Retina", "Retina Diseases Classification"),
    "24": ("US", "Breast", "Breast Cancer Classification"),
    "25": ("X-ray", "Bones", "Degree Classification of Knee"),
    "26": ("X-ray", "Bones", "Fractured Classification"),
    "27": ("X-ray", "Bones", "Vertebrae Diseases Classification"),
    "28": ("X-ray", "Lung", "COVID-19 and Pneumonia Classification"),
    "29": ("X-ray", "Breast", "Breast Diseases Classification"),
    "30": ("X-ray", "Lung", "Tuberculosis Classification"),
    "31": ("X-ray", "Chest", "Multiple-labels Chest Classification"),
    "32": ("X-ray", "Brain", "Tumor Classification"),
    "33": ("Mic", "Cell", "Multi-labels Diseases"),
    "34": ("FP", "Fundus", "Level Identification"),
    "35": ("X-ray", "Bones", "Level Identification"),
    "36": ("X-ray", "Bones", "Spinal lesion Classification"),
    "37": ("X-ray", "Breast", "Multi-labels Diseases"),
}


class Params(Source):
    """See `Source`. path: the folder with Aggregated_Subsets/ and med-mat/. only: subsets by number; empty is all."""

    name: Literal["med_mat"] = "med_mat"
    split: Literal["source", "group"] = "group"
    only: tuple[str, ...] = ()


def load(params: Params, split: str) -> Iterator[Example]:
    """One example per image, with its questions of all subsets; all in train, from which new splits are drawn."""
    root = archives.root(params.path, f"{FOLDER}/Subset--NN-train.json and med-mat/")
    if split != "train":
        return
    items = grouping.by_key(_rows(root, params.only), lambda row: row["image"])
    images = archives.Images(root)
    for item in splits.taken(items, params, split):
        yield _example(item, images)


def _rows(root: Path, only: tuple[str, ...]) -> Iterator[dict]:
    """The rows of the subsets that are there, or of `only`, each with the number of its `subset`."""
    there = {number: file for number in SUBSETS if (file := root / FOLDER / f"Subset--{number}-train.json").is_file()}
    if not there or (missing := sorted(set(only) - set(there))):
        wanted = ", ".join(missing) if there else "NN"
        raise DataError(f"Med-MAT's questions are {FOLDER}/Subset--NN-train.json, numbered 01 to 37, but {root} "
                        f"has {', '.join(there) or 'none'}. Download Subset--{wanted}-train.json, or change `only`.")
    for number, file in there.items():
        if not only or number in only:
            for row in files.rows(file, COLUMNS):
                yield row | {"subset": number}


def _example(item: grouping.RowGroup, images: archives.Images) -> Example:
    modality, area, _ = SUBSETS[item.rows[0][1]["subset"]]
    return grouping.example(
        CARD, dataset="med_mat", split="train", image_id=item.key, image=images(item.key),
        questions=tuple(_question(row) for _, row in item.rows), group=item.group, family=modality, modality=modality,
        anatomy=area,
    )


def _question(row: dict) -> Question:
    modality, area, task = SUBSETS[row["subset"]]
    text, options = row["Question-choice"], dict(OPTION.findall(row["Question-choice"]))
    head = text[: first.start()] if (first := OPTION.search(text)) else text
    tags = grouping.tags(modality=modality, area=area, task=task, source=f"{row['data-no']}")
    return lettered(f"{row['subset']}-{row['id']}", head.strip(), {letter: name.strip() for letter, name in
                    options.items()}, row["Answer-choice"].strip(), task, tags=tags)
