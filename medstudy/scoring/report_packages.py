"""Scores of reports by their authors' packages, each where it is installed; `status` lists the others.

    rouge_l       rouge-score (the extra `reports`): ROUGE-L F1, with stemming
    radgraph_f1   radgraph: entities and relations of RadGraph-XL, partial (arXiv 2106.14463)
    ratescore     RaTEScore: entities compared by embeddings (arXiv 2406.16845)

RadGraph and RaTEScore read weights. They are computed only if the weights are on this machine: nothing is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

Scores = list[float]


@dataclass(frozen=True)
class Package:
    """A column of scores: the module that computes it, how it is installed, and the function that makes the scorer."""

    column: str
    module: str
    install: str
    scorer: Callable[[], Callable[[Sequence[str], Sequence[str]], Scores]]


def _rouge() -> Callable[[Sequence[str], Sequence[str]], Scores]:
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)

    def scores(given: Sequence[str], true: Sequence[str]) -> Scores:
        return [scorer.score(reference, text)["rougeL"].fmeasure for text, reference in zip(given, true, strict=True)]

    return scores


def _radgraph() -> Callable[[Sequence[str], Sequence[str]], Scores]:
    from radgraph import F1RadGraph

    scorer = F1RadGraph(reward_level="partial", model_type="radgraph-xl")

    def scores(given: Sequence[str], true: Sequence[str]) -> Scores:
        _, each, *_ = scorer(hyps=list(given), refs=list(true))
        return [float(value) for value in each]

    return scores


def _ratescore() -> Callable[[Sequence[str], Sequence[str]], Scores]:
    from RaTEScore import RaTEScore

    scorer = RaTEScore()

    def scores(given: Sequence[str], true: Sequence[str]) -> Scores:
        return [float(value) for value in scorer.compute_score(list(given), list(true))]

    return scores


PACKAGES = (
    Package("rouge_l", "rouge_score", "pip install 'medstudy[reports]'", _rouge),
    Package("radgraph_f1", "radgraph", "pip install radgraph, with its weights on this machine", _radgraph),
    Package("ratescore", "RaTEScore", "pip install RaTEScore, with its weights on this machine", _ratescore),
)


def scores(given: Sequence[str], true: Sequence[str]) -> dict[str, Scores]:
    """The columns of the packages that are here, for texts and their references. A blank text scores 0."""
    out = {}
    for package in PACKAGES:
        scorer, _ = _loaded(package)
        if scorer is not None:
            kept = [place for place, text in enumerate(given) if text.strip()]
            values = dict(zip(kept, scorer([given[place] for place in kept], [true[place] for place in kept]),
                              strict=True)) if kept else {}
            out[package.column] = [values.get(place, 0.0) for place in range(len(given))]
    return out


def status() -> dict[str, str]:
    """For each column why it is not computed; "" if it is."""
    return {package.column: _loaded(package)[1] for package in PACKAGES}


@cache
def _loaded(package: Package) -> tuple[Callable[[Sequence[str], Sequence[str]], Scores] | None, str]:
    """A package's scorer, or None and why there is none."""
    if find_spec(package.module) is None:
        return None, f"{package.module} is not installed: {package.install}"
    try:
        with _offline():
            return package.scorer(), ""
    except Exception as error:  # of any kind: a package without its weights fails in its own way
        return None, f"{package.module} does not load here ({type(error).__name__}: {error}): {package.install}"


@contextmanager
def _offline() -> Iterator[None]:
    """No hub is asked while a package loads its weights."""
    from huggingface_hub import constants

    names: dict[str, Any] = {name: os.environ.get(name) for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        for name, value in names.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
