"""vLLM as an engine: how its server is started and ended, and what it is not asked. Its command is a stand-in here."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from medstudy import paths
from medstudy.data.encoded_image import Picture
from medstudy.errors import ModelError, ParamsError
from medstudy.evaluation import evaluate, kinds
from medstudy.params import Controls, Decoding, Model
from medstudy.resolution.compress import Compress
from medstudy.resolution.policies import Fixed, Native

LOW, NATIVE = Fixed(side=84), Native(max_pixels=112 * 112)
STAND_IN = """#!{python}
import argparse, json, sys, threading
sys.path.insert(0, {root!r})
from tests.support.openai_server import OpenAIServer
parser = argparse.ArgumentParser()
for name in ("port", "served-model-name", "mm-processor-kwargs", "max-model-len", "host", "dtype"):
    parser.add_argument("--" + name)
options = parser.parse_known_args()[0]
if options.max_model_len == "0":
    sys.exit("no room for a single token")
server = OpenAIServer(limit=json.loads(options.mm_processor_kwargs)["size"]["longest_edge"])
server.models, server.port = [{{"id": options.served_model_name}}], int(options.port)
server.start()
threading.Event().wait()
"""


def made(root: Path, model: Model | None = None, inference: tuple = (LOW, NATIVE), **options) -> SimpleNamespace:
    return SimpleNamespace(
        model=model or Model(), runs=root / "runs", interpolation="bicubic", workers=0, inference=inference,
        controls=Controls(), training=None, evaluation=Decoding(max_new_tokens=4, engine="vllm", **options))


@pytest.fixture
def command(tmp_path, monkeypatch):
    file = tmp_path / "vllm"
    file.write_text(STAND_IN.format(python=sys.executable, root=str(paths.ROOT)))
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def test_it_is_started_for_the_weights_told_to_resize_nothing_and_ended(command, examples, tmp_path):
    pytest.importorskip("openai", reason="the extra `server` is not installed")
    pictured = [replace(one, image=Picture.of(one.image, one.image_id)) for one in examples]
    study = made(tmp_path)
    model = kinds.opened(study)
    rows = evaluate.ask(model, pictured, NATIVE, study)
    words = psutil.Process(model.running.process.pid).cmdline()
    assert words[words.index("--mm-processor-kwargs") + 1] == '{"size": {"shortest_edge": 784, "longest_edge": 12544}}'
    assert words[words.index("serve") + 1] == str(paths.BASE) and "--enable-prefix-caching" in words
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert rows["visual_tokens"].max() == 16 and not (rows["server_tokens_fit"] == False).any()  # noqa: E712
    assert rows["prompt"].str.startswith("<|im_start|>system").all() and "notice" not in model.about()
    assert rows["server_model"].iloc[0].startswith("base-") and model.revision.startswith("sha256:")
    process = psutil.Process(model.running.process.pid)
    del model  # as at the end of the job
    process.wait(20)


def test_other_weights_have_another_name(checkpoints):
    from medstudy.evaluation.server import vllm_engine

    folders = [paths.BASE, checkpoints["qwen2_vl"], checkpoints["qwen2_5_vl"]]
    assert len({vllm_engine._digest(folder) for folder in folders}) == 3


@pytest.mark.usefixtures("command")
def test_what_it_cannot_do_is_said_before_it_is_started(checkpoints, tmp_path):
    with pytest.raises(ParamsError, match="shows images at any size .*, got internvl"):
        kinds.opened(made(tmp_path, Model(id=str(checkpoints["internvl"]), family="internvl")))
    with pytest.raises(ParamsError, match="sees whole images, but prune-25pct"):
        kinds.opened(made(tmp_path, inference=(LOW, Compress(share=0.25, max_pixels=112 * 112))))
    with pytest.raises(ParamsError, match="option_likelihoods"):
        kinds.opened(made(tmp_path, option_likelihoods=True))
    adapters = tmp_path / "adapters"
    adapters.mkdir()
    (adapters / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="not adapters"):
        kinds.opened(made(tmp_path), adapters)


def test_a_start_that_fails_shows_the_end_of_its_log(command, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="did not.*\n.*no room for a single token"):
        kinds.opened(made(tmp_path, engine_options=("--max-model-len=0",)))
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(ModelError, match="none on PATH"):
        kinds.opened(made(tmp_path))
