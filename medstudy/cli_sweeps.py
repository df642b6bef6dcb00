"""The commands that look after a sweep: status, logs, clean, fetch. Thin wrappers, as cli.py's."""

from __future__ import annotations

import argparse
import json

from rich.console import Console


def add(commands) -> None:
    """Add the commands to the parser of `medstudy`."""
    from medstudy.cli import _above_zero, _command

    status_ = _command(commands, "status", _status, "which jobs are done, running, failed; time and cost left")
    status_.add_argument("--watch", nargs="?", type=_above_zero, const=2.0, metavar="SECONDS", help="follow it")
    status_.add_argument("--all", action="store_true", help="every job, of a large study too")
    status_.add_argument("--json", action="store_true", help="print all jobs and the summary as JSON")


def _status(options: argparse.Namespace) -> None:
    from medstudy import params, status
    from medstudy.cli import _roomy

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
        _roomy().print(status.render(rows, None if options.all else status.LISTED), highlight=False)
