"""Shared by the commands: adding a command, types of arguments, and a console for wide tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from rich.console import Console

Commands = argparse._SubParsersAction  # what `add_subparsers` returns
WIDTH = 150  # columns of a table that is not printed on a terminal


def command(
    commands: Commands, name: str, function: Callable[[argparse.Namespace], int | None], text: str, study: bool = True
) -> argparse.ArgumentParser:
    """Add a command that runs `function`. text: its help; study: it takes a study's params file."""
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(command=function)
    if study:
        parser.add_argument("study", help="the study's params file, as params/offline.yaml")
    return parser


def roomy() -> Console:
    """A console for wide tables: a file or a pipe has no width."""
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
