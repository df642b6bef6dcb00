"""Processes of a training, one a device, started by torchrun: `notebook_launcher` and CUDA quarrel in a notebook.

The study and the job's name go to them as a file and an argument; process 0 writes the results. They end with the
process that started them, however that ends.
"""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from medstudy import errors, params, paths
from medstudy.errors import MedstudyError, ParamsError, RunError
from medstudy.params import Study

PR_SET_PDEATHSIG = 1  # linux/prctl.h
FAULT = "fault.json"  # what process 0 ended with, when it is an error of medstudy's own


def launch(module: str, arguments: Sequence[str | Path], processes: int, fault: Path | None = None) -> None:
    """`python -m MODULE ARGUMENTS` in that many processes; prints what they say.

    Raises the error of medstudy's own that stands in `fault`, else RunError when one ends with another code than 0.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [*torchrun, "--module", module, *map(str, arguments)]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=paths.ROOT, preexec_fn=_end_with_parent, **pipe) as run:
        try:
            for line in run.stdout:
                print(line, end="")
        except BaseException:
            run.terminate()  # torchrun ends its processes
            raise
    if fault is not None and fault.is_file():
        said = json.loads(fault.read_text(encoding="utf-8"))
        raise getattr(errors, said["error"])(said["message"])
    if run.returncode:
        raise RunError(f"{module} must end with code 0, but ended with {run.returncode}: {' '.join(command)}")


def train(study: Study, job) -> None:
    """`training.process` in `training.processes` processes. Raises ParamsError without as many devices."""
    processes = study.training.processes
    if torch.cuda.is_available() and (found := torch.cuda.device_count()) < processes:
        raise ParamsError(
            f"training.processes: every process needs a CUDA device of its own, got {processes} processes and {found} "
            "devices. Lower it, or hide the devices (CUDA_VISIBLE_DEVICES=) to train on the CPU."
        )
    scratch = paths.scratch(job.dir)
    (scratch / FAULT).unlink(missing_ok=True)
    with paths.atomic(scratch / "study.json") as file:
        file.write_text(study.model_dump_json(), encoding="utf-8")
    launch("medstudy.launching", [scratch / "study.json", job.name], processes, scratch / FAULT)


def main(file: Path, name: str) -> None:
    """One process of a training."""
    from accelerate import PartialState

    from medstudy import grid, training
    from medstudy.models.family import home

    _end_with_parent(signal.SIGKILL)
    study = params.parse(json.loads(file.read_text(encoding="utf-8")), file.name)
    state = PartialState(cpu=home().type == "cpu")
    try:
        training.process(study, grid.job(study, name))
    except MedstudyError as error:
        if state.is_main_process:
            said = {"error": type(error).__name__, "message": str(error)}
            (file.parent / FAULT).write_text(json.dumps(said), encoding="utf-8")
        raise
    state.destroy_process_group()


def _end_with_parent(how: int = signal.SIGTERM) -> None:
    """Let this process be ended when the one that started it ends, killed or not."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, how)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
