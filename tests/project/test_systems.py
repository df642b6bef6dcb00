"""docs/systems.md: every system of the list has params that are valid, and the same path runs at tiny size."""

import re
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest
import yaml

from docs import systems
from medstudy import datasets, params, paths
from medstudy.data import arrow_store
from medstudy.datasets.build import build
from medstudy.evaluation import evaluate, kinds
from medstudy.params import Study
from medstudy.report.pages import readme
from medstudy.scoring import score
from tests.models.test_auto import _llava
from tests.support import contrastive, own
from tests.support.openai_server import OpenAIServer

LIST = """Lingshu, InfiMed-Foundation, MedGemma, GMAI-VL, MediConfusion, ProbMed, SMMILE, MMXU, MedBookVQA,
MedVLSynther, Med-MAT, MedTrinity-25M, Point-Detect-Count, Euclid, BiMediX2, MedRegA, UMIT, HuatuoGPT-Vision, LLaVA-Rad,
Libra, LLM-CXR, SEI, IVGN, SemiHVision, Chiron-o1, SilVar-Med, MedMax, UniMedVL (understanding), AKI, Fleming-VL (2-D),
EchoVLM, Med-PaLM M, Med-Gemini, GPT-4V, UniMed-CLIP, PTUnifier, ARL, M3Ret (2-D), HEMM, MultiMed, OpenMEDLab"""
PARTS = systems.systems()
ROWS = {row["name"]: row for rows in PARTS.values() for row in rows}
FILE = yaml.safe_load((paths.ROOT / "params" / "zero-shot.yaml").read_text(encoding="utf-8"))
LADDER = [{"policy": "fixed", "side": 56}, {"policy": "native", "max_pixels": 20_000}]
STUDY = {"study": "related", "regimes": [], "inference": LADDER}
OWN = ("model", "evaluation", "inference")  # params of a row, besides its data
ASKED = {  # kind of answer -> a row of a user's table
    "closed": {"question": "Is there a dot?", "answer": "yes"},
    "open": {"question": "Where is the dot?", "answer": "upper left"},
    "choice": {"question": "Which colour is it?", "answer": "B", "options": "red|blue"},
    "class": {"question": "Is it acute or obtuse?", "answer": "acute", "options": "acute|obtuse", "kind": "class"},
    "count": {"question": "How many dots are there?", "answer": "2", "kind": "count"},
    "point": {"question": "Point to each dot.", "answer": "[[10, 20], [30, 40]]", "kind": "point"},
    "box": {"question": "Draw a box around the dots.", "answer": "[[8, 18, 32, 42]]", "kind": "box"},
    "report": {"question": "Describe the image.", "answer": "Two dots. No effusion.", "kind": "report"},
}


def test_every_system_of_the_list_is_on_the_page():
    text = systems.PAGE.read_text(encoding="utf-8")
    names = re.split(r",\s+", LIST)
    assert len(names) == 41 and set(names) - set(ROWS) == {"IVGN"} and "**IVGN**" in text
    assert set(ROWS) - set(names) == {"MedSigLIP"} and len(ROWS) == sum(map(len, PARTS.values()))


@pytest.mark.parametrize("part", systems.HEADS)
def test_the_page_s_tables_are_those_of_the_file(part):
    begin, end = readme.marks(part)
    shown = systems.PAGE.read_text(encoding="utf-8").split(begin)[1].split(end)[0].strip()
    assert shown == systems.table(part), "write it with `python -m docs.systems`"


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_where_its_facts_are_from(name):
    row = ROWS[name]
    assert set(row) <= {"name", "what", "paper", "weights", "built", "data", "answers", "limits", *OWN}
    assert row["what"] and row["paper"]
    assert row["limits"] or row.get("model") or row.get("data")
    if isinstance(row.get("weights"), list):
        assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", weights) for weights in row["weights"])


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if "model" in row or row.get("data")])
def test_the_params_as_they_are_shown_are_valid(name):
    """The text in the page's cell, put in the file that the page names."""
    lines = systems.PAGE.read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"| **{name}**")]
    names = "|".join((*OWN, "datasets"))
    shown = {key: yaml.safe_load(text) for key, text in re.findall(f"`({names}): (.*?)`", line)}
    row = ROWS[name]
    stated = {name: row[name] for name in OWN if name in row}
    assert shown == stated | {"datasets": row["data"]}
    study = params.parse(FILE | shown)
    assert [datasets.label(one) for one in study.datasets] == [one.get("label", one["name"]) for one in row["data"]]
    assert "model" not in shown or study.model.family == shown["model"]["family"]


def paths_of_the_page() -> dict[str, list[str]]:
    """Family -> the kinds of answers of all its rows."""
    asked: dict[str, set[str]] = {}
    for row in (*PARTS["here"], *PARTS["served"], *PARTS["encoders"]):
        if "model" in row:
            asked.setdefault(row["model"]["family"], set()).update(row["answers"])
    return {family: sorted(found) for family, found in asked.items()}


def table(folder: Path, asked: list[str]) -> dict:
    """Params of a user's table with an image for each kind of answer."""
    own.photos(folder, [f"{kind}.png" for kind in asked])
    rows = [{"image": f"{kind}.png", "options": "", "kind": ""} | ASKED[kind] for kind in asked]
    own.sheet(folder / "asked.csv", rows)
    return {"name": "local", "label": "asked", "path": str(folder / "asked.csv"), "test_share": 1.0}


def scores(study: Study) -> pd.DataFrame:
    """The scores of a study without regimes, as its jobs compute them."""
    build(study.datasets[0], study.root / "data")
    examples = list(arrow_store.read(study.root / "data", "test"))
    model = kinds.opened(study)
    rows = pd.concat([evaluate.ask(model, examples, rung, study) for rung in study.inference], ignore_index=True)
    return score.score(rows.assign(run_id="base", regime="base", seed=0, mismatch=True))


@pytest.mark.parametrize(("family", "asked"), paths_of_the_page().items())
def test_the_same_path_answers_at_tiny_size(family, asked, checkpoints, tmp_path):
    with ExitStack() as stack:
        if family == "openai":
            pytest.importorskip("openai", reason="the extra `server` is not installed")
            model = {"id": "seer", "server": {"base_url": stack.enter_context(OpenAIServer()).url}}
        else:
            made = {"auto": _llava, "clip": contrastive.BUILD["siglip"]}
            model = {"id": str(made[family](tmp_path / family) if family in made else checkpoints[family])}
        content = {"model": model | {"family": family}, "datasets": [table(tmp_path, asked)], "root": str(tmp_path)}
        found = scores(params.parse(STUDY | content | {"evaluation": {"max_new_tokens": 4}}))
    assert sorted(found["kind"].unique()) == asked
    assert found["score"].notna().all() and len(found) == 2 * len(asked)  # at two resolutions
