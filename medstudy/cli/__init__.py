"""The command line: thin wrappers over the library's functions. Exit status 2 is an error with one clear message.

`data check` ends with 1 where it found what would stop a study.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medstudy import __version__
from medstudy.cli import sweeps
from medstudy.cli.options import Commands, above_zero, command, positive, roomy
from medstudy.errors import Elsewhere, MedstudyError, ParamsError

if TYPE_CHECKING:
    from medstudy.params import Model
    from medstudy.resolution.sizes import Geometry

COME_BACK = 75  # the exit status for it: sysexits.h, EX_TEMPFAIL
EXAMPLES = """examples:
  python -m medstudy run params/offline.yaml              make everything that is missing, then print the claims
  python -m medstudy run params/offline.yaml --dry-run    what would be made, without making it
  python -m medstudy estimate params/offline.yaml         hours, memory and disk of every job, before it runs
  python -m medstudy data check params/offline.yaml       what its data hold, and what in them would stop it
  python -m medstudy data check my/folder                 the same of a folder or table of your own
  python -m medstudy run params/offline.yaml --profile slurm    the same on a cluster
  python -m medstudy status params/offline.yaml --watch   what is done, runs, failed, and what is left in time and cost
  python -m medstudy logs params/offline.yaml train-mixed-s1    the log of a run, by its name or a part of it
  python -m medstudy retry params/offline.yaml            the failed jobs alone, from where they stopped
  python -m medstudy clean params/offline.yaml            what no study needs any more; frees it with --yes
  python -m medstudy fetch params/paper.yaml              model and data, for nodes without a network (run --offline)
  python -m medstudy report params/offline.yaml           the claims again, and where the figures are
  python -m medstudy verify params/offline.yaml           do files and claims still follow from the records?
  python -m medstudy rescore params/offline.yaml          scores and the author's table, without a model
  python -m medstudy export params/offline.yaml --to lmms-eval --out exported
  python -m medstudy doctor                               what is installed, device, attention kernel, and why
  python -m medstudy notebook 02_train --out runs/by-hand -p study params/tiny.yaml -p run train-native-s0
"""
PREDICTIONS = "a study's params file, a folder with predictions.parquet files below it, or a file of predictions"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return options.command(options) or 0
    except Elsewhere as error:
        print(f"medstudy: {error}", file=sys.stderr)
        return COME_BACK
    except MedstudyError as error:
        print(f"medstudy: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("medstudy: stopped. Start it again, and it goes on where it was.", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "python -m medstudy",
        description="At which image resolution should a biomedical multimodal model be trained, and at which run?",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"medstudy {__version__}")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    run_ = command(commands, "run", _run, "make everything of a study that is missing, then print the claims")
    _engine(run_)
    only = {"nargs": "+", "action": "extend", "default": [], "metavar": "JOB"}
    run_.add_argument("--only", **only, help="names or patterns, and what they need")
    run_.add_argument("--dry-run", action="store_true", help="only say what would be made, and what it would cost")
    retry_ = command(commands, "retry", _retry, "make the failed jobs of a study again, where they stopped")
    retry_.add_argument("jobs_", nargs="*", metavar="JOB", help="names or patterns (default: all that failed)")
    retry_.add_argument("--fresh", action="store_true", help="from their beginning")
    _engine(retry_)
    estimate_ = command(commands, "estimate", _estimate, "what every job costs: FLOPs, seconds, memory and disk")
    estimate_.add_argument("--tflops", type=above_zero, help="sustained 10^12 operations a second, for another device")
    estimate_.add_argument("--cores", type=positive, help="jobs at once (default: every core this process may use)")
    estimate_.add_argument("--json", action="store_true", help="print jobs, totals and what they rest on as JSON")
    _data_commands(commands)
    sweeps.add(commands)
    report_ = command(commands, "report", _report, "print the claims and where the figures are")
    report_.add_argument("--readme", action="store_true", help="also write the results into README.md")
    command(commands, "verify", _verify, "recompute the hash of every recorded file, and the claims")
    rescore_ = command(commands, "rescore", _rescore, "scores from predictions alone, without a model", study=False)
    rescore_.add_argument("what", nargs="+", type=Path, help=PREDICTIONS)
    rescore_.add_argument("--out", type=Path, help="also write scores.parquet and author_scores.csv into this folder")
    export_ = command(commands, "export", _export, "results and samples in the files of other harnesses", study=False)
    export_.add_argument("what", nargs="+", type=Path, help=PREDICTIONS)
    export_.add_argument("--to", required=True, help="whose files: lmms-eval or lm-eval")
    export_.add_argument("--out", type=Path, required=True, help="a folder; no file in it is overwritten")
    export_.add_argument("--date", help="of runs without a record, as 2026-11-22T22:48:00")
    command(commands, "doctor", _doctor, "what is installed, which device and attention kernel, and why", study=False)
    lab_ = command(commands, "lab", _lab, "JupyterLab on working copies of the notebooks, in lab/", study=False)
    lab_.add_argument("options", nargs=argparse.REMAINDER, metavar="-- …", help="JupyterLab's own: -- --no-browser")
    notebook_ = command(commands, "notebook", _notebook, "run one notebook with checked parameters", study=False)
    notebook_.add_argument("name", help="file name in notebooks/, as 02_train")
    notebook_.add_argument("--out", type=Path, required=True, help="the run's folder; the executed notebook ends there")
    notebook_.add_argument("--once", action="store_true", help="take the run as it is when it is complete already")
    notebook_.add_argument("--cards", type=int, metavar="N", help="lease so many GPUs (default: see all)")
    notebook_.add_argument("--kernels", metavar="SOCKET", help="of a server of warm kernels, if it still listens")
    notebook_.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter")
    return made


def _engine(made: argparse.ArgumentParser) -> None:
    """How jobs are run."""
    made.add_argument("--profile", default="local", help="local, slurm, slurm-no-accounting, kubernetes, or a folder")
    made.add_argument("--cores", type=positive, help="cores of this machine (default: all that this process may use)")
    made.add_argument("--jobs", type=positive, help="so many submitted at once (default: as the profile says)")
    made.add_argument("--offline", action="store_true", help="no job asks the hub; see fetch")
    made.add_argument("--tflops", type=above_zero, help="for a dry run or a cluster's requests, as for estimate")


def _data_commands(commands: Commands) -> None:
    data = commands.add_parser("data", help="look at data before a study does", description="Look at data.")
    check = data.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "check",
        help="what data hold, and what in them would stop a study",
        description="What data hold, and what in them would stop a study. Exit status 0: nothing; 1: something would. "
        "The options are for a folder or table of your own; a study's params file has its own.",
    )
    check.set_defaults(command=_data_check)
    check.add_argument("path", help="a study's params file (.yaml), or a folder or table of your own")
    check.add_argument("--json", action="store_true", help="print all tables, whole, as JSON")
    several = {"nargs": "+", "action": "extend"}
    check.add_argument("--columns", **several, default=[], metavar="WHAT=COLUMN", help="as question=q answer=a")
    check.add_argument("--images", metavar="FOLDER", help="below which the images are (default: the table's folder)")
    check.add_argument("--form", help="table, swift or llava (default: by the first row)")
    check.add_argument("--ask", metavar="QUESTION", help="of every row, where the table has no questions")
    check.add_argument("--sides", **several, type=positive, metavar="SIDE", help="ladder (default: 224 448 672 896)")


def _run(options: argparse.Namespace) -> None:
    from medstudy import params
    from medstudy.utils import devices
    from medstudy.workflow import run, snakemake

    console, study = Console(), params.load(options.study)
    how = snakemake.How(options.cores or devices.cores(), options.profile, options.jobs, tuple(options.only))
    if options.dry_run:
        if run.preview(study, how, console):
            console.print("What the whole study costs:", highlight=False)
            _costs(study, options.tflops, options.cores)
        return
    from medstudy.cli import results  # with what draws: a second that a dry run does not need
    from medstudy.report.pages import publish

    _prepare(options, study, how)
    if not run.run(study, options.study, how, console) or options.only:
        return
    for one in study.each():
        publish.finish(one)
        results.show(one, console, short=True)


def _retry(options: argparse.Namespace) -> None:
    import shutil

    from medstudy import params, paths
    from medstudy.runs import plan
    from medstudy.utils import devices
    from medstudy.workflow import run, snakemake

    study = params.load(options.study)
    asked = run.matching(plan.plan(study), options.jobs_ or ["*"])
    failed = [job for job in asked if run.state(job) in run.UNFINISHED]
    if not failed:
        print(f"{study.study}: none of these jobs has failed.")
        return
    for job in failed if options.fresh else ():
        shutil.rmtree(paths.scratch(job.dir), ignore_errors=True)
    names = tuple(job.name for job in failed)
    how = snakemake.How(options.cores or devices.cores(), options.profile, options.jobs, names)
    _prepare(options, study, how)
    run.run(study, options.study, how, Console())
    print(f"Done: {', '.join(names)}. What waited for them: python -m medstudy run {shlex.quote(options.study)}")


def _prepare(options: argparse.Namespace, study, how) -> None:
    """What jobs need beside the study: no hub where none is wanted; on a cluster, what they ask for."""
    import os

    from medstudy.workflow import resources

    local = how.local  # raises for a profile that is none, before anything is counted
    if options.offline:
        from medstudy.workflow import download

        os.environ |= download.offline_environment()
    if not local:
        resources.write(study, options.tflops)


def _estimate(options: argparse.Namespace) -> None:
    import json

    from medstudy import params
    from medstudy.costs import estimate

    study = params.load(options.study)
    if not options.json:
        _costs(study, options.tflops, options.cores)
        return
    frame = estimate.estimate(study, options.tflops, progress=True)
    rows, totals = json.loads(frame.to_json(orient="records")), _totals(frame, options.cores)  # NaN as null
    print(json.dumps({"jobs": rows, "totals": totals, "about": frame.attrs}, indent=2))


def _costs(study, tflops: float | None, cores: int | None) -> None:
    """What the study's jobs cost, as a table, and what that rests on."""
    from medstudy.costs import estimate, estimate_table

    frame, console = estimate.estimate(study, tflops, progress=True), roomy()
    console.print(estimate_table.table(frame))
    for line in estimate_table.summary(frame, _totals(frame, cores)):
        console.print(line, highlight=False, soft_wrap=True)


def _totals(frame, cores: int | None) -> dict[str, float]:
    """With as many jobs at once as cores; on a card one."""
    from medstudy.costs import estimate, estimate_table
    from medstudy.utils import devices

    return estimate.totals(frame, cores or (devices.cores() if estimate_table.on_cpu(frame) else 1))


def _data_check(options: argparse.Namespace) -> int:
    import json

    from medstudy import params
    from medstudy.datasets import audit, audit_notices, audit_table
    from medstudy.resolution.policies import Fixed, Native

    if Path(options.path).suffix in (".yaml", ".yml"):
        study = params.load(options.path)
        report = audit.study(study, *_geometry(study.each()[0].model))  # the first of several models
    else:
        sides = tuple(Fixed(side=side) for side in options.sides or ())
        ladder = (*sides, Native(max_pixels=audit_notices.LARGE)) if sides else audit.LADDER
        report = audit.data([_own_data(options)], ladder)
    if options.json:
        print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        roomy().print(audit_table.render(report), highlight=False)
    return int(report.stops)


def _geometry(model: Model) -> tuple[Geometry, str]:
    """What a model does to an image, and whose that is; Qwen2-VL's where its configuration cannot be read."""
    from medstudy import models
    from medstudy.datasets import audit

    try:
        return models.sketch(model).geometry, f"of {model.id} ({model.family})"
    except MedstudyError:
        return audit.GEOMETRY, f"Qwen2-VL's, because the configuration of {model.id} is not at hand"


def _own_data(options: argparse.Namespace):
    """The params of `local` that the options say. Raises ParamsError."""
    from medstudy.params import data

    pairs = [pair.partition("=") for pair in options.columns]
    names = [name for name, _, _ in pairs]
    if wrong := [pair for pair, (name, _, column) in zip(options.columns, pairs, strict=True)
                 if not column or names.count(name) > 1]:
        raise ParamsError(f"--columns takes WHAT=COLUMN, each WHAT once, got {', '.join(wrong)}.")
    stated = {"images": options.images, "form": options.form, "ask": options.ask}
    content = {"name": "local", "label": "data", "path": options.path}
    content |= {name: value for name, value in stated.items() if value is not None}
    return data(content | {"columns": {name: column for name, _, column in pairs}}, "the options", Path.cwd())


def _report(options: argparse.Namespace) -> None:
    from medstudy import params
    from medstudy.cli import results
    from medstudy.report.pages import readme

    study = params.load(options.study)
    for one in study.each():
        results.show(one, Console())
    if options.readme:
        print(f"Written: {readme.update(study)}")


def _verify(options: argparse.Namespace) -> None:
    from medstudy import params
    from medstudy.report.pages import verify

    study = params.load(options.study)
    count = sum(map(verify.verify, study.each()))
    print(f"{study.study}: all {count} recorded files are unchanged, and claims.csv follows from the predictions.")


def _rescore(options: argparse.Namespace) -> None:
    from medstudy.scoring import rescore

    scores, table = rescore.rescore(rescore.find(options.what))
    roomy().print(rescore.printed(table))
    if options.out:
        for file in rescore.write(scores, table, options.out):
            print(f"Written: {file}")


def _export(options: argparse.Namespace) -> None:
    from medstudy.runs import record
    from medstudy.scoring import harness_export, rescore

    files = harness_export.export(rescore.find(options.what), options.out, options.to, options.date, record.commit())
    print(f"Written: {len(files)} files below {options.out}")


def _doctor(options: argparse.Namespace) -> None:
    from medstudy.cli import doctor

    table = Table("what", "found", "why")
    for finding in doctor.examine():
        table.add_row(*map(escape, finding))
    Console().print(table)


def _lab(options: argparse.Namespace) -> None:
    import os

    from medstudy.workflow import lab

    call = lab.command(options=[option for option in options.options if option != "--"])
    for line in lab.refresh().notices():
        print(line)
    sys.stdout.flush()
    os.execve(call[0], call, lab.environment())


def _notebook(options: argparse.Namespace) -> None:
    from medstudy.workflow import notebooks

    names = [name for name, _ in options.p]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ParamsError(f"A parameter is given once, got more of {', '.join(sorted(repeated))}.")
    how = {"once": options.once, "cards": options.cards, "kernels": options.kernels}
    print(notebooks.execute(options.name, options.out.resolve(), dict(options.p), **how))


def _interrupt(number: int, frame: object) -> None:
    """Being told to end is as good as Ctrl-C: what we started is ended too."""
    raise KeyboardInterrupt
