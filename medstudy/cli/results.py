"""The commands around results: report, verify, rescore and export."""

from __future__ import annotations

import argparse
from pathlib import Path

from medstudy.cli.options import Commands, command, roomy

PREDICTIONS = "a study's params file, a folder with predictions.parquet files below it, or a file of predictions"


def add(commands: Commands) -> None:
    """Add the commands to the parser of `medstudy`."""
    report = command(commands, "report", _report, "print the claims and where the figures are")
    report.add_argument("--readme", action="store_true", help="also write the results into README.md")
    command(commands, "verify", _verify, "check the hash of every recorded file, and recompute the claims")
    rescore = command(commands, "rescore", _rescore, "scores from predictions, without a model", study=False)
    rescore.add_argument("what", nargs="+", type=Path, help=PREDICTIONS)
    rescore.add_argument("--out", type=Path, help="also write scores.parquet and author_scores.csv into this folder")
    export = command(commands, "export", _export, "results and samples in the files of other harnesses", study=False)
    export.add_argument("what", nargs="+", type=Path, help=PREDICTIONS)
    export.add_argument("--to", required=True, help="the format: lmms-eval or lm-eval")
    export.add_argument("--out", type=Path, required=True, help="a folder; no file in it is overwritten")
    export.add_argument("--date", help="for runs without a record, as 2026-11-22T22:48:00")


def _report(options: argparse.Namespace) -> None:
    from rich.console import Console

    from medstudy import params
    from medstudy.cli import claims
    from medstudy.report.pages import readme

    study = params.load(options.study)
    for one_model in study.each():
        claims.show(one_model, Console())
    if options.readme:
        print(f"Written: {readme.update(study)}")


def _verify(options: argparse.Namespace) -> None:
    from medstudy import params
    from medstudy.report.pages import verify

    study = params.load(options.study)
    count = verify.verify(study)
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
