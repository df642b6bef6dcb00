"""Run one notebook of a study; its parameters are checked before anything starts (papermill only warns).

While a run works, its notebook, log and lock are in runs/logs/NAME/; the executed notebook ends in the run's folder.
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from medstudy import errors, paths
from medstudy.errors import ParamsError, RunError
from medstudy.runs import lock
from medstudy.utils import redact, yaml_files
from medstudy.workflow import gpu_leases, kernel_server

if TYPE_CHECKING:
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

TYPES = {"str": str, "int": int, "float": float, "bool": bool}
START_SECONDS = 600  # a kernel on a busy machine
FILES = ("study", "params")  # parameters that name a params file
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Parameter:
    """One line `name: type = default  # help` of a notebook's parameters cell."""

    name: str
    type: type
    default: str | int | float | bool
    help: str


def declared(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook, from its cell tagged `parameters`. Raises ParamsError for any other line in it."""
    import nbformat  # takes a second, which a kernel that only checks can save

    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if "parameters" in _tags(cell)]
    if len(cells) != 1:
        raise ParamsError(f"{notebook.name} must have one cell tagged `parameters`, got {len(cells)}.")
    lines = cells[0].source.splitlines()
    nodes = ast.parse(cells[0].source).body
    return {name: value for name, value in (_parameter(notebook, node, lines) for node in nodes)}


def checked(notebook: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The values; text from a command line is read as the declared type. Raises ParamsError that lists all mistakes."""
    known = declared(notebook)
    wrong = [_unknown(name, known) for name in values if name not in known]
    typed = {name: _read(value, known[name].type) for name, value in values.items() if name in known}
    kinds = {name: known[name].type for name in typed}
    wrong += [_mistyped(name, value, kinds[name]) for name, value in typed.items() if not _is(value, kinds[name])]
    if wrong:
        raise ParamsError(f"{notebook.stem}: " + "; ".join(wrong))
    return typed


def check(namespace: dict[str, Any]) -> None:
    """Inside a notebook, after its parameters: `check(globals())`. Raises ParamsError.

    For bare `papermill notebooks/… -p name value` and for typing errors in JupyterLab, where nothing else checks the
    parameters: every name that papermill injected must be declared, and every value must have its type.
    """
    cells = namespace.get("In", [])
    known = {name: _annotated(kind) for name, kind in namespace.get("__annotations__", {}).items()}
    wrong = [_unknown(name, known) for name in _injected(cells) if name not in known]
    wrong += _slips(_by_hand(cells), namespace)
    wrong += [_mistyped(name, namespace[name], kind) for name, kind in known.items() if not _is(namespace[name], kind)]
    if wrong:
        raise ParamsError("; ".join(wrong))


def execute(
    name: str, run: Path, values: dict[str, Any], *, once: bool = False, gpus: int | None = None,
    kernels: str | None = None,
) -> Path:
    """Run notebooks/NAME.ipynb; returns the executed notebook, which is moved into `run` if that folder was made.

    If another process makes the same run, waits for it and takes its complete result; inside a Slurm allocation, which
    waiting would waste, raises RunBusy instead. once: a complete run is taken as it is, and an incomplete one after
    the notebook has ended is an error. gpus: how many GPUs to lease for the notebook, which then sees no others; None:
    it sees all. kernels: the address of a kernel server (`kernel_server`). Raises ParamsError before a kernel starts,
    RunError if the kernel dies, and the notebook's own error if it is one of medstudy's.
    """
    source = _source(name)
    values = {name: _from_here(value) if name in FILES else value for name, value in values.items()}
    folder = paths.logs(run)
    folder.mkdir(parents=True, exist_ok=True)
    executed, record = run / "notebook.ipynb", run / paths.RECORD
    with lock.alone(run) as waited:
        if (waited or once) and record.is_file():
            return executed
        for old in ("notebook.ipynb", lock.ERROR):  # of an earlier attempt
            (folder / old).unlink(missing_ok=True)
        with open(folder / "log.txt", "w", encoding="utf-8") as log:
            try:
                values = checked(source, values)
                with gpu_leases.lease(gpus), lock.held(run):
                    _papermill(source, folder / "notebook.ipynb", values, log, kernels)
                if once and not record.is_file():
                    raise RunError(
                        f"The notebook should have made {run.name}, but made another run: the study's params or code "
                        "changed since this job was planned. Start `medstudy run` again."
                    )
            except errors.MedstudyError as error:
                log.write(f"\n{type(error).__name__}: {error}\n")
                (folder / lock.ERROR).write_text(f"{error}\n", encoding="utf-8")
                raise
        if not run.is_dir():
            return folder / "notebook.ipynb"
        return Path(shutil.move(folder / "notebook.ipynb", executed))


def _from_here(file: Any) -> Any:
    """The absolute path of a params file, because the kernel works in the repository's folder."""
    path = paths.resolve(str(file))
    return str(path.resolve()) if path.is_file() else file


def _papermill(source: Path, target: Path, values: dict[str, Any], log: TextIO, server: str | None) -> None:
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    listens = server and kernel_server.listens(server)
    options = {"kernel_manager_class": kernel_server.manager(server)} if listens else {}
    try:
        with tempfile.TemporaryDirectory(prefix="medstudy-") as sockets:
            execute_notebook(
                _unformatted(source), _unformatted(target), values, cwd=paths.ROOT, config=_ipc(sockets),
                coalesce_streams=True, kernel_name="python3", progress_bar=False, stdout_file=log, stderr_file=log,
                start_timeout=START_SECONDS, **options,
            )
    except PapermillExecutionError as error:
        raise _cause(source, error, log) from None
    except RuntimeError as error:  # nbclient's DeadKernelError, or jupyter's when the kernel died at its start
        if "Kernel died" not in str(error):
            raise
        raise RunError(
            f"The kernel of {source.stem} died without an error. It was killed, most often because memory ran out: "
            "free some, or run fewer jobs at once (--cores 1)."
        ) from None
    finally:
        if target.is_file():
            text = redact.text(target.read_text(encoding="utf-8"), _places(values))  # others may read it
            target.write_text(text, encoding="utf-8")


def _unformatted(path: Path) -> str:
    """A path for papermill, which formats braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _places(values: dict[str, Any]) -> dict[Path, str]:
    """Folders of this machine and their short names, with those of the study's file and of the paths in it."""
    places = redact.places()
    study = paths.resolve(str(values.get("study", "")))
    if study.is_file():
        files = [study.resolve(), *_named(study.resolve())]
        places |= {file.parent: "…" for file in files if not any(map(file.is_relative_to, places))}
    return places


def _named(file: Path) -> Iterator[Path]:
    """The paths that a params file names: absolute ones, and relative ones that exist."""
    try:
        texts = list(_texts(yaml_files.load(file)))
    except ParamsError:  # its reader reports it
        return
    for text in texts:
        path = file.parent / os.path.expanduser(text)
        if text.startswith(("/", "~")) or os.path.exists(path):
            yield Path(os.path.normpath(path))


def _texts(tree: Any) -> Iterator[str]:
    """Every text in a tree of YAML."""
    if isinstance(tree, str):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _texts(part)


def _ipc(folder: str) -> Config:
    """Kernel sockets in a folder of their own: TCP kernels race for ports, and the default IPC names are shared."""
    from traitlets.config import Config

    sockets = {"transport": "ipc", "ip": f"{folder}/kernel"}
    return Config({"KernelManager": sockets, "AsyncKernelManager": sockets})


def _cause(source: Path, error: PapermillExecutionError, log: TextIO) -> errors.MedstudyError:
    """The notebook's own error if it is one of ours; otherwise a RunError, with the traceback in the log."""
    kind = getattr(errors, error.ename, None)
    if isinstance(kind, type) and issubclass(kind, errors.MedstudyError):
        return kind(error.evalue)
    log.write("\n" + ANSI.sub("", "\n".join(error.traceback)) + "\n")
    return RunError(f"{source.stem} stopped in cell {error.exec_count} with {error.ename}: {error.evalue}")


def _source(name: str) -> Path:
    source = paths.NOTEBOOKS / f"{name.removesuffix('.ipynb')}.ipynb"
    if not source.is_file():
        names = ", ".join(sorted(file.stem for file in paths.NOTEBOOKS.glob("*.ipynb")))
        raise ParamsError(f"There is no notebook {name!r}; there are: {names}.")
    return source


def _tags(cell: dict) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def _parameter(notebook: Path, node: ast.stmt, lines: list[str]) -> tuple[str, Parameter]:
    rule = f"{notebook.name}: a parameter is a line `name: type = literal  # help` of type {', '.join(TYPES)}"
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
        raise ParamsError(f"{rule}, got {lines[node.lineno - 1]!r}.")
    kind = TYPES.get(ast.unparse(node.annotation))
    try:
        default = ast.literal_eval(node.value)
    except (ValueError, TypeError):
        kind = None
    if kind is None or not _is(default, kind):
        raise ParamsError(f"{rule}, got {lines[node.lineno - 1]!r}.")
    text = lines[node.end_lineno - 1][node.end_col_offset :]
    return node.target.id, Parameter(node.target.id, kind, default, text.partition("#")[2].strip())


def _read(value: Any, kind: type) -> Any:
    """Text from a command line as the declared type; as the value that it spells if that has another type."""
    if not isinstance(value, str) or kind is str:
        return value
    spelled = yaml_files.loads(value, f"A value on the command line, {value!r},")
    return float(spelled) if kind is float and type(spelled) is int else spelled


def _is(value: Any, kind: type) -> bool:
    return math.isfinite(value) if kind is float and type(value) in (int, float) else type(value) is kind


def _annotated(kind: Any) -> type:
    return TYPES[kind] if isinstance(kind, str) else kind


def _injected(cells: list[str]) -> list[str]:
    """The names that papermill set, from the last executed cell that starts as its injected cell does."""
    cell = next((cell for cell in reversed(cells) if cell.startswith("# Parameters\n")), "")
    return [target.id for node in ast.parse(cell).body for target in node.targets]


def _by_hand(cells: list[str]) -> list[str]:
    """The names in the parameters cell as last executed: the last cell of annotated assignments alone."""
    for cell in reversed(cells):
        try:
            nodes = ast.parse(cell).body
        except SyntaxError:  # a magic
            continue
        if nodes and all(isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) for node in nodes):
            return [node.target.id for node in nodes]
    return []


def _slips(names: list[str], namespace: dict[str, Any]) -> list[str]:
    """Mistakes in names typed by hand; the notebook whose parameters fit them best is taken as the open one."""
    if not names:
        return []
    known = max(_every(), key=lambda parameters: (len(set(parameters) & set(names)), -len(parameters)))
    missing = [f"{name} is missing from the parameters" for name in known if name not in namespace]
    return [_unknown(name, known) for name in names if name not in known] + missing


@cache
def _every() -> tuple[tuple[str, ...], ...]:
    """The parameters of each committed notebook, by name."""
    notebooks = []
    for file in sorted(paths.NOTEBOOKS.rglob("*.ipynb")):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        source = next(("".join(cell["source"]) for cell in cells if "parameters" in _tags(cell)), "")
        notebooks.append(tuple(node.target.id for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)))
    return tuple(notebooks)


def _unknown(name: str, known: Iterable[str]) -> str:
    return f"there is no parameter {name!r}; there are: {', '.join(known)}"


def _mistyped(name: str, value: Any, kind: type) -> str:
    needed = "a finite float" if kind is float else kind.__name__
    return f"{name} must be {needed}, got {type(value).__name__} {value!r}"
