"""Tiny data sets of the related systems in the formats of their sources, with the columns and quirks found there.

`MAKERS`: name -> function(folder) -> Params of each data set. The texts are invented, and the images are noise.
"""

from __future__ import annotations

import base64
import csv
import json
import zipfile
from pathlib import Path

from datasets import Features, Image, List, Value

from medstudy.datasets.benchmarks import (
    gmai_mmbench,
    medbookvqa,
    mediconfusion,
    medxpertqa,
    microvqa,
    mmmu,
    mmxu,
    omnimedvqa,
    pmc_vqa,
    probmed,
    smmile,
)
from tests.support import hub

TEXT, NUMBER = Value("string"), Value("int64")


def write(file: Path, content: bytes | str) -> None:
    """A file with this content; its folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def image(seed: int, kind: str = "JPEG", **more) -> bytes:
    """The bytes of a small image file."""
    return hub.encoded(seed, kind=kind, **more)["bytes"]


def table(file: Path, rows: list[dict], delimiter: str = ",") -> None:
    """A .csv or .tsv, quoted only where necessary."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def zipped(file: Path, content: dict[str, bytes]) -> None:
    """A zip archive of these files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def of_pmc_vqa(folder: Path) -> pmc_vqa.Params:
    """Version 2: panels of compound figures in a zip, letters as answers, several questions per figure."""
    articles, rows = range(8), []
    for article in articles:
        for panel in (1, 2):
            rows.append({
                "index": len(rows), "Figure_path": f"PMC{article}_Fig1_{panel}.jpg", "Caption": 'A CT, "coronal"',
                "Question": " What is, by the arrow, shown? ", "Choice A": " A: Nodule ", "Choice B": " B: A: cyst ",
                "Choice C": "C:Effusion", "Choice D": "None", "Answer": "ABCD"[(article + panel) % 4], "split": "train",
            })
    train, test = rows, [row | {"Figure_path": f"PMC9{row['Figure_path'][3:]}"} for row in rows[:6]]
    table(folder / "train_2.csv", train)
    table(folder / "test_2.csv", [*test, test[0] | {"Question": "And where?", "Answer": "B"}])
    names = {row["Figure_path"] for row in (*train, *test)}
    zipped(folder / "images_2.zip", {f"figures/{name}": image(hash_of(name)) for name in sorted(names)})
    return pmc_vqa.Params(path=str(folder), val_share=0.4)


def of_pmc_vqa_1(folder: Path) -> pmc_vqa.Params:
    """Version 1: "Anwser" has a text and "Answer_label" its letter; figures are unpacked."""
    row = {
        "Figure_path": "PMC1_F1.jpg", "Question": "What is the uptake pattern?", "Anwser": "Focal",
        "Choice A": "A:Diffuse", "Choice B": "B:Focal", "Choice C": "C:None", "Choice D": "D:Unknown",
    }
    table(folder / "train.csv", [row | {"Answer_label": "B"}])
    table(folder / "test.csv", [row | {"Figure_path": "PMC2_F1.jpg", "Answer_label": ""}])
    table(folder / "test_clean.csv", [row | {"Figure_path": "PMC2_F1.jpg", "Answer_label": "C"}])
    for number in (1, 2):
        write(folder / "images" / f"PMC{number}_F1.jpg", image(number))
    return pmc_vqa.Params(path=str(folder), release="1")


def of_omnimedvqa(folder: Path) -> omnimedvqa.Params:
    """Two data sets: two to four options, an answer with another case and a full stop, "modality" as a name."""
    questions = folder / "QA_information" / "Open-access"
    fundus = [
        {
            "dataset": "ACRIMA", "question_id": f"ACRIMA_{n:04d}", "question_type": "Modality Recognition",
            "question": "How was this image made?", "gt_answer": "Fundus imaging",
            "image_path": f"Images/ACRIMA/Im{n // 2}_ACRIMA.png", "option_A": "PET scan", "option_B": "CT scan",
            "option_C": "Fundus imaging", "option_D": "Ultrasound", "modality_type": "Fundus Photography",
        }
        for n in range(6)
    ]
    chest = [
        {
            "dataset": "Chest CT Scan", "question_id": "Chest CT Scan_0000", "question_type": "Disease Diagnosis",
            "question": "Is this image healthy?", "gt_answer": "no, it's NORMAL", "option_C": None,
            "image_path": "Images/Chest CT Scan/000 (2).png", "option_A": "Yes", "option_B": "No, It's normal.",
            "modality": "CT(Computed Tomography)",
        }
    ]
    write(questions / "ACRIMA.json", json.dumps(fundus, indent=4))
    write(questions / "Chest CT Scan.json", json.dumps(chest, indent=4))
    for number, row in enumerate((*fundus, *chest)):
        write(folder / row["image_path"], image(number, "PNG"))
    return omnimedvqa.Params(path=str(folder))


def of_mmmu(folder: Path) -> mmmu.Params:
    """Two subjects: markers in the question and in options, a missing image between others, an open question."""
    features = Features(
        {"id": TEXT, "question": TEXT, "options": TEXT, "explanation": TEXT}
        | {name: Image() for name in mmmu.IMAGES}
        | {"img_type": TEXT, "answer": TEXT, "topic_difficulty": TEXT, "question_type": TEXT, "subfield": TEXT}
    )
    common = {"explanation": "", "img_type": "['CT']", "topic_difficulty": "Easy", "subfield": "Clinical Radiology"}
    for subject in ("Clinical_Medicine", "Pharmacy"):
        rows = [
            {
                "id": f"validation_{subject}_1", "question": "<image 1> Which scan shows <image 3>?",
                "options": "['The \"first\"', \"The patient's\", '<image 3>']", "answer": "C",
                "question_type": "multiple-choice", "image_1": hub.encoded(1), "image_3": hub.encoded(2, (40, 40)),
            },
            {
                "id": f"validation_{subject}_2", "question": "<image 1> How many drops a minute?", "options": "[]",
                "answer": "['21', '21 drops']", "question_type": "open", "image_1": hub.encoded(3, kind="PNG"),
            },
        ]
        empty = dict.fromkeys(mmmu.IMAGES)
        hub.repository(folder, {"validation": [empty | common | row for row in rows]}, features, subject)
    return mmmu.Params(path=str(folder), subjects=("Clinical_Medicine", "Pharmacy"))


def of_medxpertqa(folder: Path) -> medxpertqa.Params:
    """Configurations of .jsonl files with images in a zip; the question repeats its options."""
    options = {"A": "Ligament repair", "B": "Plication", "C": "Replacement", "D": "Fixation", "E": "Reconstruction"}
    repeated = "\nAnswer Choices: " + " ".join(f"({letter}) {text}" for letter, text in options.items())
    rows = [
        {
            "id": f"MM-{n}", "question": f"A man, {20 + n}, falls.\nWhich step comes next?{repeated}",
            "options": options, "label": "ABCDE"[n], "images": [f"MM-{n}-{letter}.jpeg" for letter in "abc"[: n + 1]],
            "medical_task": "Treatment", "body_system": "Skeletal", "question_type": "Reasoning",
        }
        for n in range(3)
    ]
    write(folder / "README.md", (
        "---\nconfigs:\n- config_name: MM\n  data_files:\n  - split: dev\n    path: MM/dev.jsonl\n"
        "  - split: test\n    path: MM/test.jsonl\n---\n"
    ))
    write(folder / "MM" / "test.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    write(folder / "MM" / "dev.jsonl", json.dumps(rows[0] | {"id": "MM-dev-0"}) + "\n")
    names = [name for row in rows for name in row["images"]]
    zipped(folder / "images.zip", {f"images/{name}": image(place) for place, name in enumerate(names)})
    return medxpertqa.Params(path=str(folder))


def of_microvqa(folder: Path) -> microvqa.Params:
    """Lists of images: two questions about the same two images, and one about the second of them."""
    features = Features({
        "key_question": NUMBER, "key_image": NUMBER, "images_list": List(Image()), "question": TEXT,
        "choices": List(TEXT), "correct_index": NUMBER, "correct_answer": TEXT, "task": NUMBER, "task_str": TEXT,
    })
    pair = [hub.encoded(1, (56, 84), "PNG"), hub.encoded(2, (84, 56), "PNG")]
    rows = [
        {
            "key_question": 100 + n, "key_image": 7 if n < 3 else 8, "question": "Which hypothesis fits? ",
            "images_list": [pair, pair, pair[1:], [hub.encoded(9, kind="PNG")]][n],
            "choices": ["Fusion", "Fission", "Arrest", "Lysis", "None"], "correct_index": n,
            "correct_answer": "", "task": 2, "task_str": "hypothesis_gen",
        }
        for n in range(4)
    ]
    return microvqa.Params(path=str(hub.repository(folder, {"test": rows}, features)))


def of_mediconfusion(folder: Path) -> mediconfusion.Params:
    """Three pairs, two with a common image; the columns of the source's table, including its nameless index."""
    pairs = [("20001", "20002", "A"), ("20001", "20003", "B"), ("20004", "20005", "A")]
    rows = [
        {
            "": n, "id": 10001 + n, "im_1": f"train/radiology/images/ROCO_{one}.jpg",
            "im_2": f"train/radiology/images/ROCO_{other}.jpg", "im_1_local": one, "im_2_local": other,
            "cap_1": " A scan, left.", "cap_2": " A scan, right.", "category_1": "['Cerebral', 'Vascular']",
            "category_2": "['Spinal']", "BiomedCLIP_sim": 0.92, "DINO_sim": 0.5, "question": "What is seen?",
            "option_A": "A clot", "option_B": "No clot", "im_1_correct": right, "im_2_correct": "AB"[right == "A"],
            "AI_question": "What?", "AI_option_A": "A clot", "AI_option_B": "No clot",
        }
        for n, (one, other, right) in enumerate(pairs)
    ]
    table(folder / "dataset.csv", rows)
    for number in range(20001, 20006):
        write(folder / "images" / f"{number}.jpg", image(number))
    return mediconfusion.Params(path=str(folder))


def of_probmed(folder: Path) -> probmed.Params:
    """Two images: pairs about modality and body part, two findings with their invented counterparts, positions."""
    asked = [
        ("modality_gt", "yes"), ("modality_hallu", "no"), ("body_part_gt", "yes"), ("body_part_hallu", "no"),
        ("abnormality", "yes"), ("entity_gt_0", "yes"), ("entity_hallu_0", "no"), ("entity_gt_1", "yes"),
        ("entity_hallu_1", "no"), ("grounding_gt_0", "yes"), ("grounding_hallu_0", "no"),
    ]
    rows = [
        {
            "id": n, "image": f"chest/{n}.png", "image_type": "x-ray_chest", "qa_type": kind,
            "question": f"<image>\nIs there {kind}?", "answer": answer,
        }
        for n in range(2)
        for kind, answer in asked
    ]
    write(folder / "probmed.json", json.dumps(rows))
    for n in range(2):
        write(folder / "chest" / f"{n}.png", image(n, "PNG", mode="L"))
    return probmed.Params(path=str(folder))


def of_gmai_mmbench(folder: Path) -> gmai_mmbench.Params:
    """Rows with two, four and five options, and images in base64, two of them the same."""
    options = [("Yes", "No"), ("Polyp", "Ulcer", "Normal", "Bleeding"), ("0", "1", "2", "3", "4"), ("Yes", "No")]
    rows = [
        {
            "index": n, "image": base64.b64encode(image(n % 3, "PNG")).decode(), "question": "What\tis it?",
            **dict(zip("ABCDE", (*texts, "", "", "")[:5], strict=True)), "answer": "ABCDE"[len(texts) - 1],
            "category": "polyp", "clinical VQA task": "Disease Diagnosis", "department": "Endocrinology",
            "perceptual granularity": "image", "modality": "Endoscopy" if n else "",
        }
        for n, texts in enumerate(options)
    ]
    table(folder / "GMAI-MMBench_VAL.tsv", rows, "\t")
    return gmai_mmbench.Params(path=str(folder))


def of_medbookvqa(folder: Path) -> medbookvqa.Params:
    """Entries as in the source's sample, with figures in a zip; two have the same figure."""
    rows = [
        {
            "_id": f"c11530{n}", "QAtype": "Anatomy Identification", "Question": " What is in the centre? ",
            "Answer": " Lactiferous sinus", "Distractors": ["Duct", "Fat", "Areola"], "correct_choice": "C",
            "other_choices": ["A", "B", "D"], "image_path": f"./figures/c11530{n}.jpg",
            "LABEL": {
                "Modality": ["Radiography", "Mammography"], "Anatomy": ["Integumentary", "Mammary gland"],
                "Department": ["Gynecology", "Gynecology"],
            },
        }
        for n in range(3)
    ]
    write(folder / "data.json", json.dumps(rows, indent=2))
    zipped(folder / "figures.zip", {f"figures/c11530{n}.jpg": image(n // 2) for n in range(3)})
    return medbookvqa.Params(path=str(folder))


def of_smmile(folder: Path) -> smmile.Params:
    """Three problems with rows out of order: one with two examples, one with none, one without an image."""
    features = Features({
        "problem_id": TEXT, "order": NUMBER, "question": TEXT, "answer": TEXT, "image_url": TEXT, "image": Image(),
        "speciality": TEXT, "flag_answer_format": TEXT,
    })
    about = {"image_url": "https://example.org/a.jpg", "speciality": "Dermatology", "flag_answer_format": "short"}
    places = [("one", 3, "Yes"), ("one", 1, "White."), ("two", 1, "Benign."), ("one", 2, "Red."), ("three", 1, "No.")]
    places.append(("three", 2, "Yes"))
    rows = [
        about | {"problem_id": name, "order": order, "question": f"What colour, {order}?", "answer": answer,
                 "image": hub.encoded(n) if (name, order) != ("three", 1) else None}
        for n, (name, order, answer) in enumerate(places)
    ]
    return smmile.Params(path=str(hub.repository(folder, {"train": rows}, features)))


def of_mmxu(folder: Path) -> mmxu.Params:
    """Three questions about pairs of two patients, with images in PhysioNet's folders next to the table."""
    def name(patient: int, study: int) -> str:
        return f"files/p1{patient}/p1{patient}22588{patient}/s5{study}/4e7da567-{patient}{study}.jpg"

    rows = [
        {
            "id": n + 1, "content_type": ["worsen", "improved", "no change"][n], "question": "What change is seen?",
            "options": {"A": "None", "B": "Worse", "C": "Better", "D": "New finding"}, "answer": "BCA"[n],
            "cur_image_path": name(patient, 2), "prior_image_path": name(patient, 1),
        }
        for n, patient in enumerate((0, 0, 2))
    ]
    write(folder / "MMXU-test.jsonl", "\n".join(map(json.dumps, rows)))
    for patient in (0, 2):
        for study in (1, 2):
            write(folder / "mimic" / name(patient, study), image(10 * patient + study, size=(90, 70), mode="L"))
    return mmxu.Params(path=str(folder), images=str(folder / "mimic"))


def hash_of(name: str) -> int:
    """A number from a name, the same in every process."""
    return sum(place * ord(letter) for place, letter in enumerate(name, 1))


MAKERS = {
    "pmc_vqa": of_pmc_vqa,
    "omnimedvqa": of_omnimedvqa,
    "mmmu": of_mmmu,
    "medxpertqa": of_medxpertqa,
    "microvqa": of_microvqa,
    "mediconfusion": of_mediconfusion,
    "probmed": of_probmed,
    "gmai_mmbench": of_gmai_mmbench,
    "medbookvqa": of_medbookvqa,
    "smmile": of_smmile,
    "mmxu": of_mmxu,
}
