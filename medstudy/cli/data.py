"""The commands around data: `data check` and `fetch`."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from medstudy.cli.options import Commands, command, positive, roomy
from medstudy.errors import MedstudyError, ParamsError
from medstudy.utils.formatting import size

if TYPE_CHECKING:
    from medstudy.datasets.user.folder import Params
    from medstudy.params import Model
    from medstudy.resolution.sizes import Geometry


def add(commands: Commands) -> None:
    """Add the commands to the parser of `medstudy`."""
    data = commands.add_parser("data", help="check data before a study uses them", description="Check data.")
    check = data.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "check",
        help="summarise data sets; list problems that would stop a study",
        description="Summarise data sets and list problems that would stop a study. Exit status 0: none; 1: some. The "
        "options are for a folder or table of your own; a study's params file has its own.",
    )
    check.set_defaults(command=_check)
    check.add_argument("path", help="a study's params file (.yaml), or a folder or table of your own")
    check.add_argument("--json", action="store_true", help="print all tables as JSON")
    several = {"nargs": "+", "action": "extend"}
    check.add_argument("--columns", **several, default=[], metavar="WHAT=COLUMN", help="as question=q answer=a")
    check.add_argument("--images", metavar="FOLDER", help="the folder of the images (default: the table's folder)")
    check.add_argument("--form", help="table, swift or llava (default: from the first row)")
    check.add_argument("--ask", metavar="QUESTION", help="the question for every row of a table without questions")
    check.add_argument("--sides", **several, type=positive, metavar="SIDE", help="ladder (default: 224 448 672 896)")
    command(commands, "fetch", _fetch, "download models and data of a study, for a node without network")


def _check(options: argparse.Namespace) -> int:
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
    """How a model sizes images, and whose rule that is; Qwen2-VL's if the model's configuration cannot be read."""
    from medstudy import models
    from medstudy.datasets import audit
    from medstudy.models import contrastive

    if model.server is not None:
        return model.server.geometry, f"that model.server states of {model.id}"
    try:
        geometry = contrastive.sketch(model) if model.family == "clip" else models.sketch(model).geometry
        return geometry, f"of {model.id} ({model.family})"
    except MedstudyError:
        return audit.GEOMETRY, f"Qwen2-VL's, because the configuration of {model.id} is not available"


def _own_data(options: argparse.Namespace) -> Params:
    """The params of a user's own data, from the options. Raises ParamsError."""
    from medstudy.params import data

    pairs = [pair.partition("=") for pair in options.columns]
    names = [name for name, _, _ in pairs]
    if wrong := [pair for pair, (name, _, column) in zip(options.columns, pairs, strict=True)
                 if not column or names.count(name) > 1]:
        raise ParamsError(f"--columns takes WHAT=COLUMN, each WHAT once, got {', '.join(wrong)}.")
    optional = {"images": options.images, "form": options.form, "ask": options.ask}
    content = {"name": "local", "label": "data", "path": options.path}
    content |= {name: value for name, value in optional.items() if value is not None}
    return data(content | {"columns": {name: column for name, _, column in pairs}}, "the options", Path.cwd())


def _fetch(options: argparse.Namespace) -> int:
    """Exit status 1: something could not be fetched."""
    from medstudy import params
    from medstudy.workflow import download

    faults = []
    for result in download.fetch(params.load(options.study)):
        downloaded = f", {size(result.fresh)} new of {size(result.bytes)}" if result.bytes else ""
        print(f"{result.what}: {result.state}{downloaded}{f' ({result.where})' if result.where else ''}", flush=True)
        faults += [f"{result.what}: {result.fault}"] if result.fault else []
    print(*faults, sep="\n", end="\n" if faults else "")
    if not faults:
        print(f"Without a network: python -m medstudy run {shlex.quote(options.study)} --offline")
    return int(bool(faults))
