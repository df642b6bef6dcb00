"""Run one notebook of a study; its parameters are checked before anything starts (papermill only warns).

While a run works, its notebook, log and lock are in runs/logs/NAME/; the executed notebook ends in the run's folder.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from medstudy import errors, paths
from medstudy.errors import ParamsError, RunError
from medstudy.runs import lock
from medstudy.utils import redact, yaml_files
from medstudy.workflow import gpu_leases, kernel_server, parameters

if TYPE_CHECKING:
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

START_SECONDS = 600  # a kernel on a busy machine
FILES = ("study", "params")  # parameters that name a params file
ANSI = re.compile(r"\x1b\[[0-9;]*m")


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
                values = parameters.checked(source, values)
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
