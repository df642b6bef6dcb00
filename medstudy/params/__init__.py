"""A study's parameters: strict, frozen and complete. An unknown name is an error; all defaults are in this folder."""

from medstudy.params.model import LABEL, Label, Model, Strict
from medstudy.params.reading import data, load, parse, read
from medstudy.params.settings import (
    Allowed,
    Author,
    Controls,
    Decoding,
    Intervals,
    Leakage,
    Lora,
    Optimisation,
)
from medstudy.params.study import Seed, Study

__all__ = [
    "LABEL", "Allowed", "Author", "Controls", "Decoding", "Intervals", "Label", "Leakage", "Lora", "Model",
    "Optimisation", "Seed", "Strict", "Study", "data", "load", "parse", "read",
]
