"""Sampling of an answer's tokens at a temperature, with random numbers that depend on the question alone.

The public evaluation code of the paper's first author (https://github.com/cliangyu/med_eval, infer_eval.py) decodes by
vLLM with `SamplingParams(temperature=0.2, max_tokens=128)`. All else is vLLM's default (vllm/sampling_params.py): top_p
1, top_k off, min_p 0, repetition_penalty 1, no seed. So a token is drawn here from softmax(scores / temperature), with
nothing cut off or penalised, whatever a checkpoint's generation config asks for. The seed is our addition.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from transformers import LogitsProcessor

from medstudy.utils.seeding import token_uniform


@dataclass(frozen=True)
class Sampler:
    """Draws up to `limit` tokens of each branch of a row; `keys[k]` is the key of branch k's random numbers."""

    temperature: float
    limit: int
    keys: tuple[str, ...]

    def __call__(self, scores: torch.Tensor, branches: torch.Tensor, step: int) -> torch.Tensor:
        """[n, vocabulary] scores of the branches [n] -> [n] tokens, by inverting the distribution function."""
        sums = (scores.double() / self.temperature).softmax(-1).cumsum(-1)
        drawn = [token_uniform(self.keys[branch], step) for branch in branches.tolist()]
        heights = torch.tensor(drawn, dtype=sums.dtype, device=sums.device) * sums[:, -1]
        return torch.searchsorted(sums, heights[:, None], right=True)[:, 0]


class Draws(LogitsProcessor):
    """A `Sampler` for one answer in transformers' `generate` with do_sample=False: only the drawn token keeps a score.

    It counts the answer's tokens itself: make a new one for every answer.
    """

    def __init__(self, sampler: Sampler, branch: int = 0):
        self.sampler, self.branch, self.step = sampler, torch.tensor([branch]), -1

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.step += 1
        drawn = self.sampler(scores, self.branch, self.step)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn[:, None], 0.0)


def key(*names: str | int) -> str:
    """The key of a question's random numbers: seed, data set, image, question and rung."""
    return json.dumps(names)


def label(temperature: float) -> str:
    """The name of this decoding in prediction rows, such as "sampled-0.2"."""
    return f"sampled-{temperature:g}"
