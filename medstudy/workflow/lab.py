"""JupyterLab on working copies of the notebooks, in lab/: the committed ones stay as they are, whatever is saved.

A copy that was only run is replaced when its notebook changes; one that was edited is kept, and named.
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
ORIGINS = ".origins.json"  # in the folder: what each copy was when it was made


@dataclass(frozen=True)
class Copies:
    """Notebooks by what became of their copies: made; replaced, since the notebook changed; edited by the user and
    kept, of the same notebook or of one that has changed since; orphaned: there is no such notebook any more."""

    made: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()
    orphaned: tuple[str, ...] = ()

    def notices(self) -> list[str]:
        """A line for each kind that there is."""
        said = {
            "New copies": self.made,
            "Replaced by the repository's new version": self.replaced,
            "Edited by you, and kept": self.edited,
            "Edited by you, and kept, but the repository's version has changed (rename yours to get it)":
                self.outdated,
            "No longer in the repository, and kept": self.orphaned,
        }
        return [f"{what} ({len(names)}): {', '.join(names)}" for what, names in said.items() if names]


def refresh(source: Path = paths.NOTEBOOKS, folder: Path = FOLDER) -> Copies:
    """Copy every notebook of `source` to `folder`; a copy that was edited is never overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    origins, found = _origins(folder), {name: [] for name in Copies.__dataclass_fields__}
    for file in sorted(source.glob("*.ipynb")):
        copy, now = folder / file.name, _cells(file)
        kind = _state(copy, now, origins.get(file.name))
        if kind in ("made", "replaced"):
            with paths.atomic(copy) as temporary:
                shutil.copyfile(file, temporary)
            origins[file.name] = now
        if kind:
            found[kind].append(file.stem)
    found["orphaned"] = [name.removesuffix(".ipynb") for name in sorted(origins) if _orphaned(source, folder, name)]
    with paths.atomic(folder / ORIGINS) as temporary:
        temporary.write_text(json.dumps(origins, indent=1) + "\n", encoding="utf-8")
    return Copies(**{kind: tuple(names) for kind, names in found.items()})


def command(folder: Path = FOLDER, options: Sequence[str] = ()) -> list[str]:
    """The call of JupyterLab on that folder. Raises ParamsError where it is not installed."""
    if find_spec("jupyterlab") is None:
        raise ParamsError("JupyterLab must be installed, but is not. Install it: pip install 'medstudy[lab]'")
    return [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", *options]


def environment() -> dict[str, str]:
    """Of JupyterLab: its kernels import this package, whether it is installed or not."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(paths.ROOT), os.environ.get("PYTHONPATH"))))}


def _state(copy: Path, now: str, origin: str | None) -> str:
    """What a copy is, or "" where it is as its notebook, but for outputs."""
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
    """Hash of what a person edits in a notebook: its cells, without outputs and counts; None where it is not one."""
    try:
        cells = json.loads(file.read_bytes())["cells"]
        said = [(cell["cell_type"], "".join(cell["source"]).rstrip()) for cell in cells]
    except (ValueError, KeyError, TypeError):
        return None
    return hashlib.sha256(json.dumps([pair for pair in said if pair[1]]).encode()).hexdigest()


def _origins(folder: Path) -> dict[str, str]:
    """Where it cannot be read, every copy that differs counts as edited."""
    try:
        return json.loads((folder / ORIGINS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
