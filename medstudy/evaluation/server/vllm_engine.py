"""vLLM as the engine for weights that are here: its server, started for one job, on the loopback interface alone.

vLLM has an environment of its own, because it pins other versions of torch; its command `vllm` is found on PATH. Its
prefix cache is on, and the questions of an image follow each other; its image processor is told to resize nothing that
has a planned size.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medstudy import models, paths
from medstudy.data.example import Question, Shot
from medstudy.engine.family_protocol import Family
from medstudy.engine.tensor_cache import TensorCache
from medstudy.errors import ModelError, ParamsError
from medstudy.evaluation.server import opening
from medstudy.evaluation.server.asker import Asker
from medstudy.evaluation.server.served import Served, check_decoding
from medstudy.params import Model, Server, Study
from medstudy.resolution.sizes import Geometry
from medstudy.utils import redact

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")  # whose processor can be told to resize nothing
START_SECONDS = 900.0
LOOK_SECONDS = 0.5
CONCURRENCY = 64
TAIL = 1500  # characters of its log in an error
WEIGHTS = ("*.safetensors", "*.json", "*.jinja")
PR_SET_PDEATHSIG = 1  # of Linux's prctl: a signal to a process whose parent ends


class Running:
    """A process that ends when nothing refers to it any more, and with this process."""

    def __init__(self, process: subprocess.Popen):
        self.process = process
        weakref.finalize(self, _ended, process.pid)


@dataclass(frozen=True)
class VLLM(Served):
    """A family's weights in vLLM, as an `Answerer`. family: a sketch, for prompts and sizes."""

    family: Family | None = None
    running: Running | None = None
    weights: str = ""

    @classmethod
    def open(cls, study: Study, checkpoint: Path | None = None) -> VLLM:
        """The study's model, or a checkpoint of its training, in a vLLM that ends with this process.

        Raises ParamsError for what vLLM cannot do, ModelError if it is missing or does not start.
        """
        check_decoding(study)
        if study.model.family not in FAMILIES:
            raise ParamsError(
                f"evaluation.engine: vllm needs a family that shows images at any size ({', '.join(FAMILIES)}), got "
                f"{study.model.family}. Set evaluation.engine to own."
            )
        rungs = (*study.inference, *study.controls.views)
        if inside := [rung.label for rung in rungs if any(single.families for single in rung.singles)]:
            raise ParamsError(
                f"evaluation.engine: vllm sees whole images, but {', '.join(inside)} changes what happens inside the "
                "model or adds crops. Set evaluation.engine to own."
            )
        folder, family = _folder(study.model, checkpoint), models.sketch(study.model)
        weights = _digest(folder)
        name, port = f"{redact.last(study.model.id)}-{weights[:16]}", _free_port()
        running = _started(_command(study, folder, name, port, family.geometry), port)
        server = Server(base_url=f"http://127.0.0.1:{port}/v1", factor=family.geometry.factor, concurrency=CONCURRENCY,
                        timeout=600.0)
        asker = Asker.of(Model(id=name, family="openai", server=server), study.runs)
        found = opening.examined(asker, family.geometry, [rung.budget for rung in study.inference])
        pixels = TensorCache(study.runs / ".cache" / "pixels")
        return cls(asker, study.interpolation, pixels, found, family=family, running=running, weights=weights)

    @property
    def revision(self) -> str:
        return f"sha256:{self.weights[:16]}"

    @property
    def coordinates(self) -> str:
        return self.family.coordinates

    @property
    def geometry(self) -> Geometry:
        return self.family.geometry

    def tokens(self, text: str) -> int:
        """The number of a text's tokens."""
        return len(self.family.ids(text))

    def about(self) -> dict:
        return {"engine": "vllm", **self.found}

    def prompt(self, question: Question, image: bool = True, context: Sequence[Shot] = ()) -> str:
        """The chat template's text up to the answer."""
        return self.family.prompt(question, image, context)


def _command(study: Study, folder: Path, name: str, port: int, geometry: Geometry) -> list[str]:
    """How vLLM is started. Sizes that are multiples of the factor stay as they are between the two limits.

    The upper one is the study's own: vLLM warms up with an image of that size, so a larger one only takes memory.
    """
    budgets = [policy.budget for policy in (*study.inference, *study.controls.views)]
    limits = {"size": {"shortest_edge": geometry.min_pixels, "longest_edge": max(geometry.factor**2, *budgets)}}
    return [
        _program(), "serve", str(folder), "--served-model-name", name, "--host", "127.0.0.1", "--port", str(port),
        "--dtype", study.model.dtype, "--enable-prefix-caching", "--mm-processor-kwargs", json.dumps(limits),
        *study.evaluation.engine_options,
    ]


def _program() -> str:
    """vLLM's command. Raises ModelError without one."""
    if found := shutil.which("vllm"):
        return found
    raise ModelError(
        "evaluation.engine: vllm needs the command `vllm`, but there is none on PATH. Install vLLM in an environment "
        "of its own, and add its bin folder to the end of PATH."
    )


def _folder(model: Model, checkpoint: Path | None) -> Path:
    """The folder of the weights; those of a hub id are fetched if they are not here."""
    folder = checkpoint or (paths.BASE if model.id == "base" else paths.resolve(model.id))
    if (folder / "adapter_config.json").is_file():
        raise ModelError("evaluation.engine: vllm reads whole weights, not adapters. Set evaluation.engine to own.")
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.id, revision=model.revision))
    except Exception as error:  # of the hub or the network
        raise ModelError(f"The weights of {model.id!r} must be here or on the hub, but: {error}") from None


def _digest(folder: Path) -> str:
    """SHA-256 of a checkpoint's files: part of the name under which its answers are kept."""
    digest = hashlib.sha256()
    for file in sorted({file for kind in WEIGHTS for file in folder.glob(kind)}):
        with open(file, "rb") as stream:
            digest.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _started(command: list[str], port: int) -> Running:
    """A process that answers on the port. Raises ModelError with the end of its log."""
    log = tempfile.TemporaryFile("w+")
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, preexec_fn=_end_with_parent)
    running = Running(process)
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return running
        except OSError:
            time.sleep(LOOK_SECONDS)
    log.seek(0)
    words = redact.text(log.read()[-TAIL:])
    raise ModelError(f"vLLM must start, but it did not. `evaluation.engine_options` go to `vllm serve`. Its log ends:\n"
                     f"{words}")


def _ended(pid: int) -> None:
    """End a process group, if it is still there."""
    try:
        os.killpg(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass


def _end_with_parent() -> None:
    """On Linux, the operating system ends vLLM when the job is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
