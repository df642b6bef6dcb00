"""JupyterLab on working copies of the notebooks, in lab/: saving never changes the committed notebooks.

A copy that was only run is replaced when its notebook changes; an edited copy is kept, and a notice names it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from medstudy import paths
from medstudy.errors import ParamsError

FOLDER = paths.ROOT / "lab"
ORIGINS = ".origins.json"  # in the folder: the hash of each copy when it was made


@dataclass(frozen=True)
class Copies:
    """Notebooks by the state of their copies.

    made; replaced: the notebook has changed; edited: by the user, and kept; outdated: edited, and the notebook has
    changed; orphaned: the notebook is gone.
    """

    made: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()
    orphaned: tuple[str, ...] = ()

    def notices(self) -> list[str]:
        """One line per state that occurs."""
        lines = {
            "New copies": self.made,
            "Replaced by the repository's new version": self.replaced,
            "Edited by you, and kept": self.edited,
            "Edited by you, and kept, but the repository's version has changed (rename yours to get it)":
                self.outdated,
            "No longer in the repository, and kept": self.orphaned,
        }
        return [f"{what} ({len(names)}): {', '.join(names)}" for what, names in lines.items() if names]


def refresh(source: Path = paths.NOTEBOOKS, folder: Path = FOLDER) -> Copies:
    """Copy every notebook of `source` to `folder`; edited copies are never overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    origins, copies = _origins(folder), {name: [] for name in Copies.__dataclass_fields__}
    for file in sorted([*source.glob("*.ipynb"), *source.glob("explore/*.ipynb")]):
        name = file.relative_to(source).as_posix()
        copy, now = folder / name, _cells(file)
        kind = _state(copy, now, origins.get(name))
        if kind in ("made", "replaced"):
            with paths.atomic(copy) as temporary:
                shutil.copyfile(file, temporary)
            origins[name] = now
        if kind:
            copies[kind].append(name.removesuffix(".ipynb"))
    copies["orphaned"] = [name.removesuffix(".ipynb") for name in sorted(origins) if _orphaned(source, folder, name)]
    with paths.atomic(folder / ORIGINS) as temporary:
        temporary.write_text(json.dumps(origins, indent=1) + "\n", encoding="utf-8")
    return Copies(**{kind: tuple(names) for kind, names in copies.items()})


def command(folder: Path = FOLDER, options: Sequence[str] = ()) -> list[str]:
    """The command that starts JupyterLab in that folder. Raises ParamsError if JupyterLab is not installed."""
    if find_spec("jupyterlab") is None:
        raise ParamsError("JupyterLab is not installed. Install it: pip install 'medstudy[lab]'")
    return [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", *options]


def environment() -> dict[str, str]:
    """JupyterLab's environment: its kernels import this package, installed or not."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(paths.ROOT), os.environ.get("PYTHONPATH"))))}


def _state(copy: Path, now: str, origin: str | None) -> str:
    """The state of a copy; "" where only outputs differ from its notebook."""
    if not copy.is_file():
        return "made"
    cells = _cells(copy)
    if cells == now:
        return ""
    if cells is not None and cells == origin:
        return "replaced"
    return "edited" if origin == now else "outdated"


def _orphaned(source: Path, folder: Path, name: str) -> bool:
    return (folder / name).is_file() and not (source / name).is_file()


def _cells(file: Path) -> str | None:
    """Hash of a notebook's cells without outputs and counts; None where the file is not a notebook."""
    try:
        cells = json.loads(file.read_bytes())["cells"]
        texts = [(cell["cell_type"], "".join(cell["source"]).rstrip()) for cell in cells]
    except (ValueError, KeyError, TypeError):
        return None
    return hashlib.sha256(json.dumps([pair for pair in texts if pair[1]]).encode()).hexdigest()


def _origins(folder: Path) -> dict[str, str]:
    """{} where the file cannot be read: every copy that differs then counts as edited."""
    try:
        return json.loads((folder / ORIGINS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
