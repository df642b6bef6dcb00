"""Decoding from a shared prefix: greedy or sampled tokens, and the likelihood of given answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from transformers import Cache

from medstudy.engine.family_protocol import Family
from medstudy.engine.row_layout import PackedRow, VisualTokens
from medstudy.evaluation import sampling
from medstudy.models import generation_config


def decode(
    family: Family, packed: PackedRow, seen: VisualTokens | None, limit: int, sampler: sampling.Sampler | None = None,
    lap: Callable[[str], None] = lambda part: None,
) -> tuple[list[list[int]], list[list[int]]]:
    """The most likely tokens of every branch of a packed row, up to its end or `limit`, as `generate` finds them.

    The second list holds the tokens that the sampler draws, none without a sampler. One pass fills a cache that holds
    the prefix once; both kinds of answer continue from it. lap: called at the ends of "prefill", "decode" (of the most
    likely tokens) and "sampled"; a family that generates by itself has no prefill of its own.
    """
    if not family.shares_prefix:
        greedy = family.generated(packed, seen, limit)
        lap("decode")
        drawn = family.generated(packed, seen, sampler.limit, partial(sampling.Draws, sampler)) if sampler else []
        return greedy, drawn
    packed = packed.to(family.model.device)
    cache = family.cache()
    hidden = family.hidden(packed, seen, cache)[packed.last]
    lap("prefill")
    greedy = _continued(family, packed, hidden, cache, limit)
    lap("decode")
    if sampler is None:
        return greedy, []
    if decoded_tokens := cache.get_seq_length() - packed.ids.shape[1]:
        cache.crop(-decoded_tokens)
    return greedy, _continued(family, packed, hidden, cache, sampler.limit, sampler)


def _continued(
    family: Family, packed: PackedRow, hidden: torch.Tensor, cache: Cache, limit: int,
    sampler: sampling.Sampler | None = None,
) -> list[list[int]]:
    """The answers of all branches, decoded together: each new token attends to its image's prefix and its own branch.

    hidden [Q, width]: at each branch's last place. A sampler takes the scores as they are; the most likely token is
    taken after the checkpoint's generation config has changed them.
    """
    model, layout = family.model, packed.layout
    # Image, branch and position of every token in the cache, and of every branch that still decodes.
    image, branch = (part.to(model.device) for part in (layout.image, layout.branch))
    images, branches = image[packed.last], torch.arange(len(packed.last), device=model.device)
    stood, positions = packed.positions[:, 0], packed.positions[:, 0, packed.last] + 1
    produced: list[list[int]] = [[] for _ in branches]
    ends = torch.tensor(family.ends, device=model.device)
    # The generation config's rules read all tokens of a sequence so far.
    contexts = generation_config.contexts(packed)
    rules = None if sampler else generation_config.Rules(model, family.ends, list(map(len, contexts)), limit)
    sequences = generation_config.aligned(contexts).to(model.device) if rules else None
    for step in range(limit):
        scores = model.lm_head(hidden)
        if sampler:
            tokens = sampler(scores, branches, step)
        else:
            tokens = (rules(sequences, branches, step, scores) if rules else scores).argmax(-1)
        # Branches that ended leave.
        going = torch.isin(tokens, ends, invert=True)
        sequences = torch.cat([sequences, tokens[:, None]], 1)[going] if rules else None
        tokens, images, branches, positions = tokens[going], images[going], branches[going], positions[:, going]
        for number, token in zip(branches.tolist(), tokens.tolist(), strict=True):
            produced[number].append(token)
        if step + 1 == limit or not len(tokens):
            break
        # The new tokens enter the cache.
        image, branch = torch.cat([image, images]), torch.cat([branch, branches])
        stood = torch.cat([stood, positions], 1)
        mask = (images[:, None] == image) & ((branch == -1) | (branches[:, None] == branch))
        hidden = family.advance(tokens[None], positions[:, None], stood, mask[None, None], cache)
        positions = positions + 1
    return produced


def likelihoods(family: Family, packed: PackedRow, seen: VisualTokens | None) -> torch.Tensor:
    """[Q] log-likelihood of each branch's answer, including its end token."""
    packed = packed.to(family.model.device)
    hidden = family.hidden(packed, seen)
    scores = family.model.lm_head(hidden[packed.at]).float().log_softmax(-1)
    picked = scores.gather(1, packed.targets[:, None])[:, 0]
    return torch.zeros(len(packed.last), device=picked.device).index_add_(0, packed.question, picked)
