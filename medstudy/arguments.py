"""What the commands share: how one is added, what its arguments may be, and a console with room for wide tables."""

from __future__ import annotations

import argparse

from rich.console import Console

WIDTH = 150  # columns of a table that is not printed on a terminal


def command(commands, name: str, function, text: str, study: bool = True) -> argparse.ArgumentParser:
    made = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    made.set_defaults(command=function)
    if study:
        made.add_argument("study", help="the study's params file, as params/offline.yaml")
    return made


def roomy() -> Console:
    """For wide tables: a file or a pipe has room."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    return console


def above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number above 0 is needed, got {text!r}")
    return value


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of at least 1 is needed, got {text!r}")
    return int(text)
