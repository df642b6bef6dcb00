"""Kinds of models by the name of their family: each opens a study's model as an `Answerer`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from medstudy.evaluation.answerer import Answerer
from medstudy.evaluation.in_process import InProcess
from medstudy.params import Study

REGISTRY: dict[str, Callable[[Study, Path | None], Answerer]] = {}


def opened(study: Study, checkpoint: Path | None = None) -> Answerer:
    """The study's model, ready to be asked. checkpoint: the folder of this study's own training, if it was trained.

    Raises ModelError.
    """
    return REGISTRY.get(study.model.family, InProcess.open)(study, checkpoint)
