"""Start the processes of a training, one per device, by torchrun: accelerate's `notebook_launcher` fails with CUDA.

They read the study and the job from a file, and process 0 writes the results. They end when the process that started
them ends, even if it is killed.
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

from medstudy import errors, paths
from medstudy.errors import ParamsError, RunError
from medstudy.params import Study
from medstudy.runs.plan import Job

PR_SET_PDEATHSIG = 1  # linux/prctl.h
TRAINING = "training.json"  # the study and the job
FAULT = "fault.json"  # the error that ended process 0, if it is one of medstudy.errors


def launch(module: str, arguments: Sequence[str | Path], processes: int, fault: Path | None = None) -> None:
    """Run `python -m MODULE ARGUMENTS` in `processes` processes and print their output.

    Raises the error that a process left in the file `fault`, or RunError when one ends with a code other than 0.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [*torchrun, "--module", module, *map(str, arguments)]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=paths.ROOT, preexec_fn=end_with_parent, **pipe) as run:
        try:
            for line in run.stdout:
                print(line, end="")
        except BaseException:
            run.terminate()  # torchrun ends its processes
            raise
    if fault is not None and fault.is_file():
        error = json.loads(fault.read_text(encoding="utf-8"))
        raise getattr(errors, error["error"])(error["message"])
    if run.returncode:
        raise RunError(f"{module} must end with code 0, but ended with {run.returncode}: {' '.join(command)}")


def train(study: Study, job: Job) -> None:
    """Run `training.process` in `training.processes` processes. Raises ParamsError if CUDA devices are too few."""
    processes = study.training.processes
    if torch.cuda.is_available() and (devices := torch.cuda.device_count()) < processes:
        raise ParamsError(
            f"training.processes: every process needs a CUDA device of its own, got {processes} processes and "
            f"{devices} devices. Lower it, or hide the devices (CUDA_VISIBLE_DEVICES=) to train on the CPU."
        )
    scratch = paths.scratch(job.dir)
    (scratch / FAULT).unlink(missing_ok=True)
    write(scratch / TRAINING, study, job)
    launch("medstudy.training.worker", [scratch / TRAINING], processes, scratch / FAULT)


def write(file: Path, study: Study, job: Job) -> None:
    """Write the study and the job for the processes of a training."""
    content = {"study": study.model_dump(mode="json"), "job": TypeAdapter(Job).dump_python(job, mode="json")}
    with paths.atomic(file) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def end_with_parent(how: int = signal.SIGTERM) -> None:
    """Ask the kernel to signal this process when its parent ends, even if the parent is killed (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, how)
