"""Processes of a training, one a device, started by torchrun: `notebook_launcher` and CUDA quarrel in a notebook.

The study and the job go to them in a file; process 0 writes the results. They end with the
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
from pydantic import TypeAdapter

from medstudy import errors, params, paths
from medstudy.errors import MedstudyError, ParamsError, RunError
from medstudy.grid import Job
from medstudy.params import Study

PR_SET_PDEATHSIG = 1  # linux/prctl.h
TRAINING = "training.json"  # the study and the job
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


def train(study: Study, job: Job) -> None:
    """`training.process` in `training.processes` processes. Raises ParamsError without as many devices."""
    processes = study.training.processes
    if torch.cuda.is_available() and (found := torch.cuda.device_count()) < processes:
        raise ParamsError(
            f"training.processes: every process needs a CUDA device of its own, got {processes} processes and {found} "
            "devices. Lower it, or hide the devices (CUDA_VISIBLE_DEVICES=) to train on the CPU."
        )
    scratch = paths.scratch(job.dir)
    (scratch / FAULT).unlink(missing_ok=True)
    write(scratch / TRAINING, study, job)
    launch("medstudy.launching", [scratch / TRAINING], processes, scratch / FAULT)


def write(file: Path, study: Study, job: Job) -> None:
    """What the processes of a training need to know."""
    content = {"study": study.model_dump(mode="json"), "job": TypeAdapter(Job).dump_python(job, mode="json")}
    with paths.atomic(file) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def main(file: Path) -> None:
    """One process of a training."""
    from accelerate import PartialState

    from medstudy import training
    from medstudy.models.family import home

    _end_with_parent(signal.SIGKILL)
    content = json.loads(file.read_text(encoding="utf-8"))
    study, job = params.parse(content["study"], file.name), TypeAdapter(Job).validate_python(content["job"])
    state = PartialState(cpu=home().type == "cpu")
    try:
        training.process(study, job)
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
    main(Path(sys.argv[1]))
