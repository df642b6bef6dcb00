"""The commands that look after a sweep: status, logs, clean, fetch. Thin wrappers, as cli.py's."""

from __future__ import annotations

import argparse
import json
import shlex

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medstudy.cli.options import Commands, above_zero, command, positive, roomy
from medstudy.errors import ParamsError
from medstudy.utils.formatting import size


def add(commands: Commands) -> None:
    """Add the commands to the parser of `medstudy`."""
    status_ = command(commands, "status", _status, "which jobs are done, running, failed; time and cost left")
    status_.add_argument("--watch", nargs="?", type=above_zero, const=2.0, metavar="SECONDS", help="follow it")
    status_.add_argument("--all", action="store_true", help="every job, of a large study too")
    status_.add_argument("--json", action="store_true", help="print all jobs and the summary as JSON")
    logs_ = command(commands, "logs", _logs, "what a run said last, or says while it works")
    logs_.add_argument("run", metavar="RUN", help="a run's name, a part that no other has, or a pattern")
    logs_.add_argument("-n", type=positive, default=40, metavar="LINES", help="so many lines (default: 40)")
    logs_.add_argument("--follow", action="store_true", help="new lines as they come, until the run ends")
    clean_ = command(commands, "clean", _clean, "what no study needs any more under runs/, and free it", study=False)
    clean_.add_argument("study", nargs="*", help="of these params files alone (default: of all in params/)")
    clean_.add_argument("--caches", action="store_true", help="also the caches of images and features")
    clean_.add_argument("--yes", action="store_true", help="free it; without, only list it")
    command(commands, "fetch", _fetch, "download models and data of a study, for a node without network")


def _status(options: argparse.Namespace) -> None:
    from medstudy import params
    from medstudy.workflow import status

    study = params.load(options.study)
    if options.watch:
        try:
            status.watch(study, Console(), options.watch)
        except KeyboardInterrupt:
            pass  # who looks may stop looking
        return
    rows = status.table(study)
    if options.json:
        said = {"jobs": json.loads(rows.to_json(orient="records")), "summary": status.summary(rows)}  # NaN as null
        print(json.dumps(said, indent=2))
    else:
        roomy().print(status.render(rows, None if options.all else status.LISTED), highlight=False)


def _logs(options: argparse.Namespace) -> None:
    from medstudy import params
    from medstudy.workflow import logs

    study = params.load(options.study)
    jobs = logs.find(study, options.run)
    if options.follow and len(jobs) > 1:
        raise ParamsError(f"One run is followed at a time, got {', '.join(job.name for job in jobs)}. Name one.")
    for job in jobs:
        if len(jobs) > 1:
            print(f"== {job.name}")
        if options.follow:
            for line in logs.follow(job, options.n):
                print(line, flush=True)
        elif logs.file(job).is_file():
            print("\n".join(logs.last(logs.file(job), options.n)))
        else:
            print(f"{job.name} has said nothing: there is no {logs.file(job)}.")
        if said := logs.slurm(study, job, options.n):
            print("\n".join([f"-- Slurm ({said[0]})", *said[1]]))


def _clean(options: argparse.Namespace) -> None:
    from medstudy.workflow import cleanup

    found = cleanup.find(options.study, options.caches)
    table = Table("what", "size", "where", "why", box=None, pad_edge=False)
    for items in cleanup.together(found.items):
        kinds, bytes_ = ", ".join(dict.fromkeys(item.kind for item in items)), sum(item.bytes for item in items)
        table.add_row(kinds, size(bytes_), escape(items[0].path.name), escape(items[0].why))
    if found.items:
        roomy().print(table, highlight=False)
    for line in found.held:
        print(f"Kept, {line}")
    if options.yes:
        print(f"Freed {size(cleanup.free(found))}.")
    else:
        print(f"{size(found.bytes)} in {len(found.items)} places would be freed; --yes frees them.")


def _fetch(options: argparse.Namespace) -> int:
    """Exit status 1: something could not be had."""
    from medstudy import params
    from medstudy.workflow import download

    faults = []
    for one in download.fetch(params.load(options.study)):
        downloaded = f", {size(one.fresh)} new of {size(one.bytes)}" if one.bytes else ""
        print(f"{one.what}: {one.state}{downloaded}{f' ({one.where})' if one.where else ''}", flush=True)
        faults += [one] if one.fault else []
    for one in faults:
        print(f"{one.what}: {one.fault}")
    if not faults:
        print(f"Without a network: python -m medstudy run {shlex.quote(options.study)} --offline")
    return int(bool(faults))
