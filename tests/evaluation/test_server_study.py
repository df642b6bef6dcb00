"""A whole study of a model behind a server, from notebooks to report: nothing in it has the key or the address."""

from __future__ import annotations

import copy

import pandas as pd
import pytest
import yaml

pytest.importorskip("openai", reason="the extra `server` is not installed")

from medstudy import paths
from tests.support import studies
from tests.support.openai_server import KEY, OpenAIServer

pytestmark = pytest.mark.slow

TINY = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())
TRAINS = ("seeds", "training", "bounds", "regimes", "controls", "model", "datasets")


def test_a_study_of_a_model_behind_a_server_ends_in_a_report_without_its_key(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    content = {name: copy.deepcopy(value) for name, value in TINY.items() if name not in TRAINS}
    data = {"name": "phantom", "train": 4, "val": 4, "test": 4, "seed": 1}
    with OpenAIServer({7: "429", 9: "500"}, keyed=True) as server:
        served = {"base_url": server.url, "key": "MY_KEY", "factor": 28, "max_requests": 500}
        content |= {"study": "served", "root": str(tmp_path / "out"), "regimes": [], "datasets": [data],
                    "controls": {"views": TINY["controls"]["views"]},
                    "model": {"id": "seer", "family": "openai", "server": served}}
        (tmp_path / "served.yaml").write_text(yaml.safe_dump(content))
        ran = studies.medstudy("run", tmp_path / "served.yaml", "--cores", "1")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        url, port, received = server.url, str(server.port), server.received
    out = tmp_path / "out"
    (predictions,) = out.glob("runs/evaluate-base-s0-*/predictions.parquet")
    rows = pd.read_parquet(predictions)
    assert set(rows["inference"]) == {"fixed-84", "native", "down_up-84", "blind", "shuffled"}
    assert rows["server_model"].eq("seer").all() and rows["server_tokens_fit"].isin([True, None]).all()
    assert len(list(out.glob("runs/responses/*/*/*.json"))) <= received
    assert list(out.glob("runs/report-*/record.json"))
    files = [file for file in out.rglob("*") if file.is_file()]
    assert {".json", ".parquet", ".ipynb"} <= {file.suffix for file in files}
    for text in [ran.stdout, ran.stderr, *(file.read_bytes().decode("latin-1") for file in files)]:
        assert KEY not in text and url not in text and f"127.0.0.1:{port}" not in text

