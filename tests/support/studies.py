"""Studies for tests: params/tiny.yaml with changes, with runs and figures under a temporary root."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import yaml

from medstudy import paths


def killable(epochs: int) -> dict:
    """Changes to the tiny study: two regimes with long trainings that write a resume point every second."""
    return {
        "datasets": [{"name": "phantom", "train": 8, "val": 4, "test": 8, "seed": 1}],
        "regimes": [{"policy": "native", "max_pixels": 200704}, {"policy": "fixed", "side": 84}],
        "training": {
            "epochs": epochs, "images_per_step": 2, "learning_rate": 0.0005, "validations": 2, "checkpoint_seconds": 1
        },
    }


def write_study(root: Path, **changes) -> Path:
    """A params file in `root`: the tiny study with changes, which writes below `root`."""
    content = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())
    file = root / "study.yaml"
    file.write_text(yaml.safe_dump(content | {"root": str(root)} | changes))
    return file


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "medstudy", *map(str, arguments)]


def start(*arguments: str | Path, root: Path = paths.ROOT) -> subprocess.Popen:
    """`python -m medstudy …` in the background, with the package in `root`."""
    return subprocess.Popen(command(*arguments), **_options(root))


def kill_tree(process: subprocess.Popen) -> None:
    """SIGKILL to a process and all its children."""
    for one in [*psutil.Process(process.pid).children(recursive=True), process]:
        one.kill()
    process.communicate()


def medstudy(*arguments: str | Path, root: Path = paths.ROOT) -> subprocess.CompletedProcess:
    """`python -m medstudy …` to its end."""
    process = start(*arguments, root=root)
    out, err = process.communicate(timeout=1200)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def words_on_stderr(file: Path) -> list[str]:
    """What an executed notebook printed on stderr, mostly warnings, without progress bars."""
    cells = nbformat.read(file, as_version=4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    lines = [line for output in outputs if output.get("name") == "stderr" for line in re.split(r"[\r\n]+", output.text)]
    return [line for line in lines if line.strip() and not re.search(r"\[\d\d:\d\d", line)]


def _options(root: Path) -> dict:
    pipe = subprocess.PIPE
    environment = os.environ | {"PYTHONPATH": str(root)}
    return {"stdout": pipe, "stderr": pipe, "text": True, "cwd": root, "env": environment}
