"""A study's parameters: strict, frozen and complete. An unknown name is an error; all defaults are in this folder."""

from medstudy.params.clip import Clip
from medstudy.params.model import LABEL, Abilities, Label, Model, TrainedOn
from medstudy.params.reading import data, load, parse, read
from medstudy.params.server import DECIDING, Prices, Server
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
from medstudy.params.strict import Strict
from medstudy.params.study import Seed, Study

__all__ = [
    "DECIDING", "LABEL", "Abilities", "Allowed", "Author", "Clip", "Controls", "Decoding", "Intervals", "Label",
    "Leakage", "Lora", "Model", "Optimisation", "Prices", "Seed", "Server", "Strict", "Study", "TrainedOn", "data",
    "load", "parse", "read",
]
