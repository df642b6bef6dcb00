"""The commands that make a study and look after its runs."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medstudy.cli.options import Commands, above_zero, command, positive, roomy
from medstudy.errors import ParamsError
from medstudy.utils.formatting import size

if TYPE_CHECKING:
    import pandas as pd

    from medstudy.params import Study
    from medstudy.workflow.snakemake import RunOptions


def add(commands: Commands) -> None:
    """Add the commands to the parser of `medstudy`."""
    run = command(commands, "run", _run, "make everything of a study that is missing, then print the claims")
    _add_engine(run)
    jobs = {"nargs": "+", "action": "extend", "default": [], "metavar": "JOB"}
    run.add_argument("--only", **jobs, help="only these jobs (names or patterns) and what they need")
    run.add_argument("--dry-run", action="store_true", help="only show what would be made, and what it would cost")
    retry = command(commands, "retry", _retry, "make the failed jobs of a study again, from where they stopped")
    retry.add_argument("jobs_", nargs="*", metavar="JOB", help="names or patterns (default: all that failed)")
    retry.add_argument("--fresh", action="store_true", help="from their beginning")
    _add_engine(retry)
    estimate = command(commands, "estimate", _estimate, "what every job costs: FLOPs, seconds, memory and disk")
    estimate.add_argument("--tflops", type=above_zero, help="sustained 10^12 operations per second of another device")
    estimate.add_argument("--cores", type=positive, help="jobs at once (default: all cores that this process may use)")
    estimate.add_argument("--json", action="store_true", help="print jobs, totals and their basis as JSON")
    status = command(commands, "status", _status, "which jobs are done, running, failed; time and cost left")
    status.add_argument("--watch", nargs="?", type=above_zero, const=2.0, metavar="SECONDS", help="follow it")
    status.add_argument("--all", action="store_true", help="list every job, even of a large study")
    status.add_argument("--json", action="store_true", help="print all jobs and the summary as JSON")
    logs = command(commands, "logs", _logs, "the log of a run, while it works and afterwards")
    logs.add_argument("run", metavar="RUN", help="a run's name, a part that only one name has, or a pattern")
    logs.add_argument("-n", type=positive, default=40, metavar="LINES", help="number of lines (default: 40)")
    logs.add_argument("--follow", action="store_true", help="print new lines until the run ends")
    clean = command(commands, "clean", _clean, "list or free what no study needs any more under runs/", study=False)
    clean.add_argument("study", nargs="*", help="params files (default: all in params/)")
    clean.add_argument("--caches", action="store_true", help="also the caches of images and features")
    clean.add_argument("--yes", action="store_true", help="free it (default: only list it)")
    notebook = command(commands, "notebook", _notebook, "run one notebook with checked parameters", study=False)
    notebook.add_argument("name", help="file name in notebooks/, as 02_train")
    notebook.add_argument("--out", type=Path, required=True, help="the run's folder; the executed notebook ends there")
    notebook.add_argument("--once", action="store_true", help="take a complete run as it is")
    notebook.add_argument("--cards", type=int, metavar="N", help="GPUs to lease (default: see all)")
    notebook.add_argument("--kernels", metavar="SOCKET", help="address of a kernel server, used if it still listens")
    notebook.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter")
    lab = command(commands, "lab", _lab, "JupyterLab on working copies of the notebooks, in lab/", study=False)
    lab.add_argument("options", nargs=argparse.REMAINDER, metavar="-- …", help="JupyterLab's own: -- --no-browser")


def _add_engine(parser: argparse.ArgumentParser) -> None:
    """Options of how jobs are run."""
    parser.add_argument("--profile", default="local", help="local, slurm, slurm-no-accounting, kubernetes, or a folder")
    parser.add_argument("--cores", type=positive, help="cores of this machine (default: all that this process may use)")
    parser.add_argument("--jobs", type=positive, help="jobs submitted at once (default: as the profile says)")
    parser.add_argument("--offline", action="store_true", help="no job contacts the hub; see fetch")
    parser.add_argument("--tflops", type=above_zero, help="for a dry run or a cluster's requests, as for estimate")


def _run(options: argparse.Namespace) -> None:
    from medstudy import params
    from medstudy.workflow import run

    console, study = Console(), params.load(options.study)
    how = _run_options(options, tuple(options.only))
    if options.dry_run:
        if run.preview(study, how, console):
            console.print("What the whole study costs:", highlight=False)
            _costs(study, options.tflops, options.cores)
        return
    from medstudy.cli import claims  # importing it takes a second; a dry run does not need it
    from medstudy.report.pages import publish

    _prepare(options, study, how)
    if not run.run(study, options.study, how, console) or options.only:
        return
    for one_model in study.each():
        publish.finish(one_model)
        if study.probe:
            console.print(f"Read on: {one_model.figures / 'README.md'}", highlight=False, soft_wrap=True)
        else:
            claims.show(one_model, console, short=True)


def _retry(options: argparse.Namespace) -> None:
    import shutil

    from medstudy import params, paths
    from medstudy.runs import plan
    from medstudy.workflow import run

    study = params.load(options.study)
    jobs = run.matching(plan.plan(study), options.jobs_ or ["*"])
    failed = [job for job in jobs if run.state(job) in run.UNFINISHED]
    if not failed:
        print(f"{study.study}: none of these jobs has failed.")
        return
    for job in failed if options.fresh else ():
        shutil.rmtree(paths.scratch(job.dir), ignore_errors=True)
    names = tuple(job.name for job in failed)
    how = _run_options(options, names)
    _prepare(options, study, how)
    run.run(study, options.study, how, Console())
    print(f"Done: {', '.join(names)}. What waited for them: python -m medstudy run {shlex.quote(options.study)}")


def _run_options(options: argparse.Namespace, only: tuple[str, ...]) -> RunOptions:
    from medstudy.utils import devices
    from medstudy.workflow.snakemake import RunOptions

    return RunOptions(options.cores or devices.cores(), options.profile, options.jobs, only)


def _prepare(options: argparse.Namespace, study: Study, how: RunOptions) -> None:
    """Before jobs start: keep them off the hub where that is wanted, and write what they request from a cluster."""
    import os

    from medstudy.workflow import resources

    local = how.local  # raises for an unknown profile before anything is counted
    if options.offline:
        from medstudy.workflow import download

        os.environ |= download.offline_environment()
    if not local:
        resources.write(study, options.tflops)


def _estimate(options: argparse.Namespace) -> None:
    from medstudy import params
    from medstudy.costs import estimate

    study = params.load(options.study)
    if not options.json:
        _costs(study, options.tflops, options.cores)
        return
    frame = estimate.estimate(study, options.tflops, progress=True)
    rows, totals = json.loads(frame.to_json(orient="records")), _totals(frame, options.cores)  # NaN as null
    print(json.dumps({"jobs": rows, "totals": totals, "about": frame.attrs}, indent=2))


def _costs(study: Study, tflops: float | None, cores: int | None) -> None:
    """Print what the study's jobs cost, and the basis of these numbers."""
    from medstudy.costs import estimate, estimate_table

    frame, console = estimate.estimate(study, tflops, progress=True), roomy()
    console.print(estimate_table.table(frame))
    for line in estimate_table.summary(frame, _totals(frame, cores)):
        console.print(line, highlight=False, soft_wrap=True)


def _totals(frame: pd.DataFrame, cores: int | None) -> dict[str, float]:
    """Totals with as many jobs at once as cores; on a GPU one job."""
    from medstudy.costs import estimate, estimate_table
    from medstudy.utils import devices

    return estimate.totals(frame, cores or (devices.cores() if estimate_table.on_cpu(frame) else 1))


def _status(options: argparse.Namespace) -> None:
    from medstudy import params
    from medstudy.workflow import status

    study = params.load(options.study)
    if options.watch:
        try:
            status.watch(study, Console(), options.watch)
        except KeyboardInterrupt:
            pass  # the way to stop watching
        return
    rows = status.table(study)
    if options.json:
        content = {"jobs": json.loads(rows.to_json(orient="records")), "summary": status.summary(rows)}  # NaN as null
        print(json.dumps(content, indent=2))
    else:
        roomy().print(status.render(rows, None if options.all else status.LISTED), highlight=False)


def _logs(options: argparse.Namespace) -> None:
    from medstudy import params
    from medstudy.workflow import logs

    study = params.load(options.study)
    jobs = logs.find(study, options.run)
    if options.follow and len(jobs) > 1:
        raise ParamsError(f"One run can be followed at a time, got {', '.join(job.name for job in jobs)}. Name one.")
    for job in jobs:
        if len(jobs) > 1:
            print(f"== {job.name}")
        if options.follow:
            for line in logs.follow(job, options.n):
                print(line, flush=True)
        elif logs.file(job).is_file():
            print("\n".join(logs.last(logs.file(job), options.n)))
        else:
            print(f"{job.name} has no log: there is no {logs.file(job)}.")
        if slurm := logs.slurm(study, job, options.n):
            print("\n".join([f"-- Slurm ({slurm[0]})", *slurm[1]]))


def _clean(options: argparse.Namespace) -> None:
    from medstudy.workflow import cleanup

    found = cleanup.find(options.study, options.caches)
    table = Table("what", "size", "where", "why", box=None, pad_edge=False)
    for items in cleanup.together(found.items):
        kinds, total = ", ".join(dict.fromkeys(item.kind for item in items)), sum(item.bytes for item in items)
        table.add_row(kinds, size(total), escape(items[0].path.name), escape(items[0].why))
    if found.items:
        roomy().print(table, highlight=False)
    for line in found.held:
        print(f"Kept, {line}")
    if options.yes:
        print(f"Freed {size(cleanup.free(found))}.")
    else:
        print(f"{size(found.bytes)} in {len(found.items)} places would be freed; --yes frees them.")


def _notebook(options: argparse.Namespace) -> None:
    from medstudy.workflow import notebooks

    names = [name for name, _ in options.p]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ParamsError(f"A parameter is given once, got more of {', '.join(repeated)}.")
    how = {"once": options.once, "gpus": options.cards, "kernels": options.kernels}
    print(notebooks.execute(options.name, options.out.resolve(), dict(options.p), **how))


def _lab(options: argparse.Namespace) -> None:
    import os

    from medstudy.workflow import lab

    call = lab.command(options=[option for option in options.options if option != "--"])
    print(*lab.refresh().notices(), sep="\n", flush=True)
    os.execve(call[0], call, lab.environment())
