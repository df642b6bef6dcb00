"""Studies made on the spot for tests: params/tiny.yaml with changes, its runs and figures under a temporary root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import yaml

from medstudy import paths


def write_study(root: Path, **changes) -> Path:
    """A params file in `root`: the tiny study, changed, writing below `root`."""
    content = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())
    file = root / "study.yaml"
    file.write_text(yaml.safe_dump(content | {"root": str(root)} | changes))
    return file


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "medstudy", *map(str, arguments)]


def start(*arguments: str | Path, root: Path = paths.ROOT) -> subprocess.Popen:
    """`python -m medstudy …` in the background, with the package that stands in `root`."""
    return subprocess.Popen(command(*arguments), **_options(root))


def kill_tree(process: subprocess.Popen) -> None:
    """SIGKILL to a process and to all that it started."""
    for one in [*psutil.Process(process.pid).children(recursive=True), process]:
        one.kill()
    process.communicate()


def medstudy(*arguments: str | Path, root: Path = paths.ROOT) -> subprocess.CompletedProcess:
    """`python -m medstudy …` to its end."""
    process = start(*arguments, root=root)
    out, err = process.communicate(timeout=1200)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _options(root: Path) -> dict:
    pipe = subprocess.PIPE
    environment = os.environ | {"PYTHONPATH": str(root)}
    return {"stdout": pipe, "stderr": pipe, "text": True, "cwd": root, "env": environment}
