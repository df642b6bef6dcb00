"""Tiny fixtures of the paper's data sets, each in the format of its source with its real columns and quirks.

A maker writes to a folder and returns the Params that load its files.
"""

from __future__ import annotations

import json
from pathlib import Path

from datasets import ClassLabel, Features, Image, List, Value

from medstudy.datasets.paper import bbbc021, hpa, hussain, path_vqa, slake, ubench, vqa_rad, wsi_vqa
from tests.support import hub

TEXT = Value("string")
VQA = Features({"image": Image(), "question": TEXT, "answer": TEXT})
ASKED = {
    "question": TEXT, "options": List(TEXT), "answer": TEXT, "answer_idx": Value("int64"), "id": TEXT, "name": TEXT
}
TYPES = ("classification", "domain", "modality", "stain", "subdomain", "submodality")
UBENCH = Features(
    {"image_id": TEXT, "image": Image(), "label": ClassLabel(names=["negative-nilm", "carcinoma-scc"])}
    | {name: TEXT for name in ("dataset", "domain", "license", "modality", "stain", "subdomain", "submodality")}
    | {"microns_per_pixel": Value("float64"), "synthetic": Value("bool"), "questions": {name: ASKED for name in TYPES}}
)
HPA = Features(
    {name: TEXT for name in ("image_id", "ensembl_id", "protein", "uniprot_id", "cell_line", "cellosaurus_id",
                             "localizations", "url", "caption", "file_path", "md5_hash")} | {"image": Image()}
)


def vqa_rad_(folder: Path) -> vqa_rad.Params:
    """Images repeat across rows and splits; answers are in lower case."""
    asked = [("is there a fracture?", "no"), ("where is the mass?", "left lung"), ("which organ?", "the liver")]
    train = [_row(hub.encoded(i, (84, 56 + 28 * (i % 2))), *ask) for ask in asked for i in range(12)]
    test = [_row(hub.encoded(100 + i), *ask) for ask in asked for i in range(3)]
    return vqa_rad.Params(path=str(hub.repository(folder, {"train": train, "test": test}, VQA)), val_share=0.3)


def path_vqa_(folder: Path) -> path_vqa.Params:
    """CMYK JPEGs among the RGB ones; "Yes" and "no"; three splits."""
    asked = [("is necrosis present?", "Yes"), ("does it show α-smooth muscle actin?", "no"),
             ("where are liver stem cells (oval cells) located?", "in the canals of hering")]
    images = {
        split: [hub.encoded(first + i, (64, 90), mode="CMYK" if i == 1 else "RGB") for i in range(3)]
        for split, first in (("train", 0), ("validation", 10), ("test", 20))
    }
    rows = {split: [_row(image, *ask) for image in found for ask in asked] for split, found in images.items()}
    return path_vqa.Params(path=str(hub.repository(folder, rows, VQA)))


def slake_(folder: Path) -> slake.Params:
    """The English form: three splits with image, question and answer."""
    asked = [("What modality is used to take this image?", "MRI"), ("Does the picture contain liver?", "Yes")]
    rows = {
        split: [_row(hub.encoded(first + i, kind="PNG"), *ask) for i in range(2) for ask in asked]
        for split, first in (("train", 0), ("validation", 10), ("test", 20))
    }
    return slake.Params(path=str(hub.repository(folder, rows, VQA)))


def slake_original(folder: Path) -> slake.Params:
    """Chinese rows, a CLOSED answer other than yes or no, a row without an answer, one folder of images per case."""
    asked = [
        ("What modality is used?", "CT", "en", "OPEN", "Modality"), ("是否有肝脏?", "是", "zh", "CLOSED", "Organ"),
        ("Is the lung healthy?", "No", "en", "CLOSED", "Abnormality"), ("What color?", "", "en", "OPEN", "Color"),
        ("Which is bigger, liver or heart?", "Liver", "en", "CLOSED", "Size"),
    ]
    number = 0
    for split, first in (("train", 0), ("validation", 10), ("test", 20)):
        rows = []
        for i in range(first, first + 2):
            name = f"xmlab{i}/source.jpg"
            _write(folder / "imgs" / name, hub.encoded(i))
            for question, answer, lang, kind, content in asked:
                number += 1
                rows.append({
                    "img_id": i, "img_name": name, "question": question, "answer": answer, "q_lang": lang,
                    "location": "Abdomen", "modality": "CT", "answer_type": kind, "base_type": "vqa",
                    "content_type": content, "triple": ["vhead", "_", "_"], "qid": number,
                })
        (folder / f"{split}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return slake.Params(form="original", path=str(folder))


def ubench_(folder: Path) -> ubench.Params:
    """Arrow files: null questions, a question without options, a null data set, an image that is too small."""
    kinds = _asked("What kind of image is this?", ["fluorescence", "electron", "light", "none of the above"], 2)
    classes = _asked("Which lesion is shown?", ["negative-nilm", "carcinoma-scc", "none of the above"], 0)
    none = dict.fromkeys(TYPES)
    rows = [
        _ubench("a", (1000, 1001), none | {"modality": kinds, "classification": classes}, "hussain_et_al_2019"),
        _ubench("b", (1250, 804), none | {"modality": kinds, "stain": _asked("Which stain?", [], 0)}, None),
        _ubench("small", (1000, 1000), none | {"modality": kinds}, "jung_et_al_2022"),
        _ubench("unasked", (1100, 1100), none, "nirschl_unpub_fluorescence"),
    ]
    hub.shard(folder / "perception" / "0.1.0" / "ubench-test-00000-of-00001.arrow", rows, UBENCH)
    return ubench.Params(path=str(folder))


def hpa_(folder: Path) -> hpa.Params:
    """The hub's form: localizations in one text, and a row with an image that its maker could not read."""
    train, test = _hpa(range(14)), _hpa(range(20, 25))
    train[3]["image"] = None
    return hpa.Params(path=str(hub.repository(folder, {"train": train, "test": test}, HPA)), val_share=0.3)


def hpa_jsonl(folder: Path) -> hpa.Params:
    """The author's rows: absolute paths as text, a list of localizations, and text that is not ASCII."""
    for split, numbers in (("train", range(14)), ("test", range(20, 25))):
        rows = []
        for row in _hpa(numbers):
            _write(folder / row["file_path"], row["image"])
            rows.append({
                "query": "Provide a description of the given image.", "response": row["caption"],
                "images": f"/lab/subcellular/{row['file_path']}", "cell_line": row["cell_line"],
                "localizations": row["localizations"].split(";"),
            })
        _jsonl(folder / f"subcellular_{split}.jsonl", rows)
    return hpa.Params(form="jsonl", path=str(folder), strip="/lab/subcellular/", val_share=0.3)


def hpa_captions(folder: Path) -> hpa.Params:
    """The source of both other forms, which is split here."""
    rows = _hpa(range(16))
    for row in rows:
        _write(folder / row["file_path"], row.pop("image"))
    (folder / "captions.json").write_text(json.dumps(rows), encoding="utf-8")
    return hpa.Params(form="captions", path=str(folder), test_rows=4, val_share=0.3)


def hussain_(folder: Path) -> hussain.Params:
    """`images` is one text with an absolute path of another machine; there are more test rows than are used."""
    lesions = ("negative-nilm", "low-grade-lsil", "high-grade-hsil", "carcinoma-scc")
    for name, numbers in (("train.jsonl", range(12)), ("test_200_qwen.jsonl", range(20, 28))):
        rows = []
        for i in numbers:
            _write(folder / f"images/{i}.jpg", hub.encoded(i))
            asked = {"query": "Which lesion does the smear show?", "response": lesions[i % 4]}
            rows.append(asked | {"images": f"/lab/images/{i}.jpg"})
        _jsonl(folder / name, rows)
    return hussain.Params(path=str(folder), strip="/lab/", val_share=0.3, test_rows=6)


def wsi_vqa_(folder: Path) -> wsi_vqa.Params:
    """The original's rows: two wordings about the type, a choice, an answer with a period, a survival time."""
    types = ("Infiltrating Ductal Carcinoma", "Infiltrating Lobular Carcinoma")
    for split, first in (("train", 0), ("val", 10), ("test", 20)):
        rows = []
        for i in range(first, first + 4):
            patient = f"TCGA-A1-A0{i:02d}"
            _write(folder / "images" / f"{patient}-01Z-00-DX1.png", hub.encoded(i, kind="PNG"))
            rows += [
                {"Id": patient, "Question": "please predict histological_type?", "Answer": types[i % 2]},
                {"Id": patient, "Question": "Could you predict histological_type?", "Answer": types[i % 2]},
                {"Id": patient, "Question": "please predict survival time?", "Answer": f"{100 + i}"},
                {"Id": patient, "Question": "which grade?", "Choice": ["grade 1", "Grade 3"], "Answer": "grade 3."},
                {"Id": patient, "Question": "what is the size?", "Choice": ["1 cm", "2 cm"], "Answer": "not mentioned"},
                {"Id": patient, "Question": "was it malignant?", "Choice": ["yes", "no"], "Answer": "yes"},
            ]
        (folder / f"WsiVQA_{split}.json").write_text(json.dumps(rows), encoding="utf-8")
    return wsi_vqa.Params(path=str(folder))


def wsi_vqa_all(folder: Path) -> wsi_vqa.Params:
    """The original with all of its questions."""
    return wsi_vqa_(folder).model_copy(update={"topics": ()})


def wsi_vqa_jsonl(folder: Path) -> wsi_vqa.Params:
    """The author's rows with a validation file."""
    names = {"WsiVQA_train_shuffled_subtype.jsonl": 0, "val.jsonl": 10, "WsiVQA_test_shuffled_subtype.jsonl": 20}
    for name, first in names.items():
        rows = []
        for i in range(first, first + 4):
            _write(folder / f"{i}.png", hub.encoded(i, kind="PNG"))
            answer = ("Infiltrating Ductal Carcinoma", "Medullary Carcinoma")[i % 2]
            rows.append({"query": "please predict histological_type?", "response": answer, "images": [f"{i}.png"]})
        _jsonl(folder / name, rows)
    return wsi_vqa.Params(form="jsonl", path=str(folder), val_file="val.jsonl")


def bbbc021_(folder: Path) -> bbbc021.Params:
    """No test file: rows of the training file are held out."""
    names = ("Actin disruptors", "Aurora kinase inhibitors", "DMSO")
    rows = []
    for i in range(16):
        _write(folder / f"week1/{i}.png", hub.encoded(i, kind="PNG"))
        asked = {"query": "<image>Which mechanism of action?", "response": names[i % 3]}
        rows.append(asked | {"images": [f"week1/{i}.png"]})
    _jsonl(folder / "bbbc021_train.jsonl", rows)
    return bbbc021.Params(path=str(folder), test_file=None, test_rows=5, val_share=0.3)


def bbbc021_several(folder: Path) -> bbbc021.Params:
    """Messages instead of query and response; two images per row, a control and the treated cells."""
    params = bbbc021_(folder)
    rows = [
        {"messages": [{"role": "system", "content": "You are a biomedical expert."},
                      {"role": "user", "content": "<image>control <image>treated: which mechanism of action?"},
                      {"role": "assistant", "content": ("DMSO", "Actin disruptors")[i % 2]}],
         "images": ["week1/0.png", {"path": f"week1/{i}.png"}]}
        for i in range(1, 16)
    ]
    _jsonl(folder / "bbbc021_train.jsonl", rows)
    return params


def _row(image: dict, question: str, answer: str) -> dict:
    return {"image": image, "question": question, "answer": answer}


def _asked(question: str, options: list[str], right: int) -> dict:
    answer = options[right] if options else ""
    return {"question": question, "options": options, "answer": answer, "answer_idx": right, "id": "q", "name": "n"}


def _ubench(name: str, size: tuple[int, int], questions: dict, dataset: str | None) -> dict:
    image = hub.encoded(len(name), size, kind="JPEG")
    return {
        "image_id": name, "image": image, "label": 0, "dataset": dataset, "domain": "pathology",
        "license": "CC-BY-4.0" if dataset else None, "modality": "light microscopy", "stain": None,
        "subdomain": "cytopathology", "submodality": "brightfield", "microns_per_pixel": None, "synthetic": False,
        "questions": questions,
    }


def _hpa(numbers: range) -> list[dict]:
    """Rows in the hub's form; every second row has two localizations."""
    rows = []
    for i in numbers:
        line, places = ("U-2 OS", "HeLa", "A-431")[i % 3], "Nucleoplasm" if i % 2 else "Cytosol;Golgi apparatus"
        rows.append({
            "image_id": f"hpa-{i}", "ensembl_id": f"ENSG{i:011d}", "protein": f"P{i}", "uniprot_id": f"Q{i}",
            "cell_line": line, "cellosaurus_id": "CVCL_0042", "localizations": places, "url": "https://example.org",
            "caption": f"{line} cells, stained with β-tubulin: the protein is in {places.replace(';', ' and ')}.",
            "file_path": f"images/{i}.jpg", "md5_hash": f"{i:032x}", "image": hub.encoded(i),
        })
    return rows


def _write(file: Path, image: dict) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(image["bytes"])


def _jsonl(file: Path, rows: list[dict]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


MAKERS = {
    "vqa_rad": vqa_rad_,
    "path_vqa": path_vqa_,
    "slake": slake_,
    "slake-original": slake_original,
    "ubench": ubench_,
    "hpa": hpa_,
    "hpa-jsonl": hpa_jsonl,
    "hpa-captions": hpa_captions,
    "hussain": hussain_,
    "wsi_vqa": wsi_vqa_,
    "wsi_vqa-all": wsi_vqa_all,
    "wsi_vqa-jsonl": wsi_vqa_jsonl,
    "bbbc021": bbbc021_,
    "bbbc021-several": bbbc021_several,
}
