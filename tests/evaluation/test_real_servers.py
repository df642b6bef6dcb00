"""The shipped base behind real servers on the loopback interface: their greedy answers equal ours.

`transformers serve` runs in this environment where fastapi and uvicorn are installed. vLLM has an environment of its
own: its command `vllm` is found on PATH.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

pytest.importorskip("openai", reason="the extra `server` is not installed")

from medstudy import datasets, params, paths
from medstudy.data.encoded_image import Picture
from medstudy.evaluation import evaluate, kinds
from medstudy.params import Controls, Decoding, Model, Server
from medstudy.resolution.policies import Blind, Fixed, Native

pytestmark = pytest.mark.slow

LADDER = (Fixed(side=84), Native(max_pixels=280 * 280))
SECONDS = 240  # to start
TRANSFORMERS = (sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve")


@pytest.fixture(scope="module")
def pictures():
    data = params.data({"name": "phantom", "train": 4, "val": 4, "test": 6, "seed": 1})
    return [replace(one, image=Picture.of(one.image, one.image_id)) for one in datasets.load(data, "test")]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def started(log: Path, port: int, *command: str, **environment: str) -> subprocess.Popen:
    """A server that answers, in a process group of its own."""
    with open(log, "w") as out:
        offline = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | environment
        process = subprocess.Popen(command, stdout=out, stderr=out, env=offline, start_new_session=True)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return process
        except OSError:
            time.sleep(0.5)
    ended(process)
    pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")


def ended(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(60)


def compared(root: Path, model: Model, pictures, **engine) -> pd.DataFrame:
    """The answers of a server beside ours. engine: settings of the evaluation by the server."""

    def study(one: Model, **engine) -> SimpleNamespace:
        return SimpleNamespace(
            model=one, runs=root / "runs", interpolation="bicubic", workers=0, inference=LADDER, training=None,
            controls=Controls(), evaluation=Decoding(max_new_tokens=8, **engine))

    frames = []
    for one in (study(model, **engine), study(Model())):
        opened = kinds.opened(one)
        asked = [evaluate.ask(opened, pictures, policy, one) for policy in (*LADDER, Blind())]
        frames.append(pd.concat(asked, ignore_index=True))
    served, ours = frames
    assert served["raw_text"].tolist() == ours["raw_text"].tolist()
    assert served["visual_tokens"].tolist() == ours["visual_tokens"].tolist()
    assert ours["raw_text"].nunique() > 5
    assert not (served["server_tokens_fit"] == False).any()  # noqa: E712 (None is not False)
    return served


@pytest.mark.skipif(not all(map(find_spec, ("fastapi", "uvicorn"))), reason="transformers serve needs fastapi, uvicorn")
def test_transformers_serve_answers_as_we_do(pictures, tmp_path):
    port, folder = free_port(), str(paths.BASE)
    options = ("--port", str(port), "--host", "127.0.0.1", "--device", "cpu", "--dtype", "float32")
    process = started(tmp_path / "log", port, *TRANSFORMERS, folder, *options)
    try:
        server = Server(base_url=f"http://127.0.0.1:{port}/v1", factor=28, listed=False, concurrency=2)
        served = compared(tmp_path, Model(id=folder, family="openai", server=server), pictures)
    finally:
        ended(process)
    assert not served["server_model"].str.contains("/").any()


@pytest.mark.skipif(shutil.which("vllm") is None, reason="vLLM's command is not on PATH")
def test_vllm_as_the_engine_answers_as_we_do(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    options = ("--max-model-len=2048", "--enforce-eager", "--max-num-seqs=8")
    served = compared(tmp_path, Model(), pictures, engine="vllm", engine_options=options)
    assert served["prompt"].str.contains("<|im_start|>", regex=False).all()
    assert served["server_tokens_fit"].any()
