"""`medstudy fetch` from a local hub that is then switched off: what was fetched loads without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from datasets import Features, Image, Value

from medstudy import params, paths
from medstudy.workflow import download
from tests.support import hub, hub_server
from tests.support.studies import write_study

FETCH = """
import sys
from tests.support.sweeps import command
sys.exit(command("fetch", sys.argv[1]))
"""
USE = """
import sys, time
from medstudy import datasets, models, params
from medstudy.errors import DataError
from medstudy.data.readers import hub
study = params.load(sys.argv[1])
start = time.monotonic()
family = models.load(study.model)
counts = [sum(1 for _ in datasets.load(study.datasets[0], split)) for split in ("train", "val", "test")]
assert hub.commit(study.datasets[0].path, None) == sys.argv[2]
other = study.datasets[0].model_copy(update={"revision": "f" * 40})
try:
    list(datasets.load(other, "test"))
except DataError as error:
    assert "fff is not here, only " + sys.argv[2] in str(error)
else:
    raise AssertionError("another commit was taken for it")
print(type(family).__name__, *counts, time.monotonic() - start)
"""


@pytest.fixture(scope="module")
def hosted(tmp_path_factory, tiny_model):
    """A folder of repositories: a tiny checkpoint, with files that must not be fetched, and a tiny VQA-RAD."""
    folder = tmp_path_factory.mktemp("hub")
    model = folder / "models" / "someone" / "tiny-vl"
    shutil.copytree(tiny_model.id, model)
    for name in ("pytorch_model.bin", "modeling_own.py", "training_args.bin"):
        (model / name).write_bytes(b"not to be had")
    columns = Features({"image": Image(), "question": Value("string"), "answer": Value("string")})
    splits = {
        split: [{"image": hub.encoded(number + start), "question": "Is it?", "answer": "yes"} for number in range(6)]
        for split, start in (("train", 0), ("test", 100))
    }
    hub.repository(folder / "datasets" / "someone" / "vqa", splits, columns)
    return folder


def python(code: str, *arguments, home, **more) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    environment = clean | {"HF_HOME": str(home), "PYTHONPATH": str(paths.ROOT), "NO_PROXY": "*"} | more
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=paths.ROOT)


@pytest.mark.slow
def test_what_was_fetched_is_used_without_a_network(hosted, tmp_path):
    model = {"id": "someone/tiny-vl", "family": "qwen2_vl"}
    data = [{"name": "vqa_rad", "path": "someone/vqa", "revision": None, "val_share": 0.4}]
    file = write_study(tmp_path, model=model, datasets=data)
    home = tmp_path / "home"
    with hub_server.serve(hosted) as (url, asked):
        first = python(FETCH, file, home=home, HF_ENDPOINT=url)
        assert first.returncode == 0, first.stdout + first.stderr
        fetched = [line for line in asked if line.startswith("GET") and "model.safetensors" in line]
        again = python(FETCH, file, home=home, HF_ENDPOINT=url)
        assert len([line for line in asked if line.startswith("GET") and "model.safetensors" in line]) == len(fetched)
    assert "someone/tiny-vl: downloaded, " in first.stdout and "vqa_rad: downloaded, " in first.stdout
    assert first.stdout.splitlines()[-1] == f"Without a network: python -m medstudy run {file} --offline"
    assert "someone/tiny-vl: already here, 0 B new" in again.stdout and "vqa_rad: already here" in again.stdout
    had = {file.name for file in (home / "hub" / "models--someone--tiny-vl" / "snapshots").rglob("*")}
    assert "model.safetensors" in had and not {"pytorch_model.bin", "training_args.bin", "modeling_own.py"} & had
    used = python(USE, file, hub_server.COMMIT, home=home, HF_ENDPOINT=url, **download.offline_environment())
    assert used.returncode == 0, used.stderr
    family, train, val, test, seconds = used.stdout.split()
    assert family == "Qwen2VL" and int(train) + int(val) == int(test) == 6 and float(seconds) < 60


@pytest.mark.slow
def test_what_cannot_be_fetched_is_named_and_the_rest_is_fetched(tmp_path):
    model = {"id": "someone/absent", "family": "qwen2_vl"}
    data = [{"name": "phantom", "train": 1, "val": 1, "test": 1, "seed": 1}]
    file = write_study(tmp_path, model=model, datasets=data)
    with hub_server.serve(tmp_path) as (url, _):
        said = python(FETCH, file, home=tmp_path / "home", HF_ENDPOINT=url)
    assert said.returncode == 1 and "someone/absent: missing" in said.stdout
    assert "phantom: made here, nothing to fetch" in said.stdout and "--offline" not in said.stdout
    assert "cannot be fetched" in said.stdout and "Traceback" not in said.stderr


def test_folders_need_nothing(tmp_path, tiny_model):
    (tmp_path / "data").mkdir()
    data = [{"name": "vqa_rad", "path": str(tmp_path / "data")}]
    study = params.load(write_study(tmp_path, model=tiny_model.model_dump(exclude={"label"}), datasets=data))
    assert [one.state for one in download.fetch(study)] == ["a folder, nothing to fetch"] * 2
