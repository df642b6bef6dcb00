"""What a job asks of a scheduler: memory in MB and minutes."""

from __future__ import annotations

from medstudy.params import Study

MEMORY_MB = {"train": 1800, "evaluate": 1800}


def read(study: Study) -> dict[str, dict[str, int]]:
    """The requests of the study's runs by folder name; empty when nobody wrote them."""
    return {}


def of_job(job, known: dict[str, dict[str, int]]) -> dict[str, int]:
    """{"mem_mb", "runtime"} of a job."""
    return known.get(job.dir.name, {"mem_mb": MEMORY_MB.get(job.stage, 1200) * job.processes, "runtime": 60})


def write(study: Study, tflops: float | None = None) -> None:
    """See `read`."""
