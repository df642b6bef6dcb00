"""How long a study has worked, over all its starts: one small file, written while jobs run and read by the report."""

from __future__ import annotations

import json
from pathlib import Path

from medstudy import paths
from medstudy.params import Study


def read(study: Study) -> float | None:
    """Seconds of work so far; None when the study was never run as a whole."""
    file = _file(study)
    return json.loads(file.read_text(encoding="utf-8"))["seconds"] if file.is_file() else None


def write(study: Study, seconds: float) -> None:
    """Replace the file with this number of seconds."""
    with paths.atomic(_file(study)) as temporary:
        temporary.write_text(json.dumps({"seconds": round(seconds, 1)}), encoding="utf-8")


def _file(study: Study) -> Path:
    return study.runs / "logs" / f"{study.study}.wall.json"
