"""Kinds of models by the name of their family: each opens a study's model as an `Answerer`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from medstudy.evaluation.answerer import Answerer
from medstudy.evaluation.contrastive import Contrastive
from medstudy.evaluation.in_process import InProcess
from medstudy.evaluation.server.served import Served
from medstudy.evaluation.server.vllm_engine import VLLM
from medstudy.params import Study

REGISTRY: dict[str, Callable[[Study, Path | None], Answerer]] = {
    kind.name: kind.open for kind in (Contrastive, Served)
}


def opened(study: Study, checkpoint: Path | None = None) -> Answerer:
    """The study's model, ready to be asked. checkpoint: the folder of this study's own training, if it was trained.

    Raises ModelError.
    """
    if study.evaluation.engine == "vllm":
        return VLLM.open(study, checkpoint)
    return REGISTRY.get(study.model.family, InProcess.open)(study, checkpoint)
