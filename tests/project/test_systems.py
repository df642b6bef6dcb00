"""docs/systems.md: every system of the list has params that are valid, and the same path runs at tiny size."""

import csv
import re
from pathlib import Path

import pytest
import yaml

from docs import systems
from medstudy import datasets, params, paths
from medstudy.params import Model
from medstudy.report.pages import readme
from tests.models.test_auto import _llava
from tests.support import chain, own

LIST = """Lingshu, InfiMed-Foundation, MedGemma, GMAI-VL, MediConfusion, ProbMed, SMMILE, MMXU, MedBookVQA,
MedVLSynther, Med-MAT, MedTrinity-25M, Point-Detect-Count, Euclid, BiMediX2, MedRegA, UMIT, HuatuoGPT-Vision, LLaVA-Rad,
Libra, LLM-CXR, SEI, IVGN, SemiHVision, Chiron-o1, SilVar-Med, MedMax, UniMedVL (understanding), AKI, Fleming-VL (2-D),
EchoVLM, Med-PaLM M, Med-Gemini, GPT-4V, UniMed-CLIP, PTUnifier, ARL, M3Ret (2-D), HEMM, MultiMed, OpenMEDLab"""
PARTS = systems.systems()
ROWS = {row["name"]: row for rows in PARTS.values() for row in rows}
TINY = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())
PENDING = ("openai",)
ASKED = {  # kind of answer -> a row of a user's table
    "closed": {"question": "Is there a dot?", "answer": "yes"},
    "open": {"question": "Where is the dot?", "answer": "upper left"},
    "choice": {"question": "Which colour is it?", "answer": "B", "options": "red|blue"},
    "class": {"question": "Is it acute or obtuse?", "answer": "acute", "options": "acute|obtuse", "kind": "class"},
}


def test_every_system_of_the_list_is_on_the_page():
    text = systems.PAGE.read_text(encoding="utf-8")
    names = re.split(r",\s+", LIST)
    assert len(names) == 41 and set(names) - set(ROWS) == {"IVGN"} and "**IVGN**" in text
    assert len(ROWS) == sum(map(len, PARTS.values())) == 40


@pytest.mark.parametrize("part", systems.HEADS)
def test_the_page_s_tables_are_those_of_the_file(part):
    begin, end = readme.marks(part)
    shown = systems.PAGE.read_text(encoding="utf-8").split(begin)[1].split(end)[0].strip()
    assert shown == systems.table(part), "write it with `python -m docs.systems`"


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_where_its_facts_are_from(name):
    row = ROWS[name]
    known = {"name", "what", "paper", "weights", "built", "model", "data", "answers", "evaluation", "limits"}
    assert set(row) <= known and row["what"] and row["paper"]
    assert row["limits"] or row.get("model") or row.get("data")
    if isinstance(row.get("weights"), list):
        assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", weights) for weights in row["weights"])


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if "model" in row or row.get("data")])
def test_the_params_as_they_are_shown_are_valid(name):
    """The text in the page's cell, read as YAML: a study of it."""
    lines = systems.PAGE.read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"| **{name}**")]
    shown = {key: yaml.safe_load(text) for key, text in re.findall(r"`(model|evaluation|datasets): (.*?)`", line)}
    row = ROWS[name]
    stated = {"model": row.get("model"), "evaluation": row.get("evaluation"), "datasets": row.get("data")}
    assert shown == {key: value for key, value in stated.items() if value}
    if shown.get("model", {}).get("family") in PENDING:
        return
    study = params.parse(TINY | shown)
    assert [datasets.label(one) for one in study.datasets] == [one.get("label", one["name"]) for one in row["data"]]
    assert study.model.family == shown.get("model", TINY["model"])["family"]


def paths_of_the_page() -> dict[str, list[str]]:
    """Family -> the kinds of answers of all its rows."""
    kinds: dict[str, set[str]] = {}
    for row in (*PARTS["here"], *PARTS["served"], *PARTS["encoders"]):
        if "model" in row:
            kinds.setdefault(row["model"]["family"], set()).update(row["answers"])
    return {family: sorted(found) for family, found in kinds.items() if family not in PENDING}


def table(folder: Path, kinds: list[str]) -> datasets.Params:
    """A user's table with an image for each kind of answer."""
    own.photos(folder, [f"{kind}.png" for kind in kinds])
    rows = [{"image": f"{kind}.png", "options": "", "kind": ""} | ASKED[kind] for kind in kinds]
    with (folder / "asked.csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return params.data({"name": "local", "label": "asked", "path": str(folder / "asked.csv"), "test_share": 1.0})


@pytest.mark.parametrize(("family", "kinds"), paths_of_the_page().items())
def test_the_same_path_answers_at_tiny_size(family, kinds, checkpoints, tmp_path):
    folder = _llava(tmp_path / "llava") if family == "auto" else checkpoints[family]
    done = chain.run(table(tmp_path, kinds), Model(id=str(folder), family=family), tmp_path / "done")
    assert sorted(done.scores["kind"].unique()) == kinds
    assert done.scores["score"].notna().all() and len(done.scores) == 2 * len(kinds)  # at two resolutions
