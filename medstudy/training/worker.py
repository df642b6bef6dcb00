"""One of several processes of a training: `python -m medstudy.training.worker FILE` under torchrun
(`medstudy.training.launch`).
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from medstudy.training import launch


def main(file: Path) -> None:
    """Train the job that `file` describes. Process 0 leaves an error of medstudy's own in a file next to it."""
    launch.end_with_parent(signal.SIGKILL)  # before the imports, which take seconds

    from accelerate import PartialState
    from pydantic import TypeAdapter

    from medstudy import params
    from medstudy.errors import MedstudyError
    from medstudy.models.loading import default_device
    from medstudy.runs.plan import Job
    from medstudy.training import train

    content = json.loads(file.read_text(encoding="utf-8"))
    study, job = params.parse(content["study"], file.name), TypeAdapter(Job).validate_python(content["job"])
    state = PartialState(cpu=default_device().type == "cpu")
    try:
        train.process(study, job)
    except MedstudyError as error:
        if state.is_main_process:
            fault = {"error": type(error).__name__, "message": str(error)}
            (file.parent / launch.FAULT).write_text(json.dumps(fault), encoding="utf-8")
        raise
    state.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
