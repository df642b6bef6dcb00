"""What a checkpoint's generation_config.json says: obeyed by transformers' own processors, without effect, or refused.

Answers are decoded greedily from a shared prefix (`medstudy.evaluation.evaluate`), not by `generate`; each next
token's scores
go through the same `LogitsProcessorList` that `generate` would make, so that the answers are `generate`'s.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch
from transformers import GenerationConfig, LogitsProcessorList

from medstudy.engine.row_layout import Packed
from medstudy.errors import ModelError
from medstudy.models.files import listed, parsed

OBEYED = (
    "eos_token_id", "min_length", "min_new_tokens", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids",
    "sequence_bias", "renormalize_logits", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
    "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
)
_SAMPLING = "it shapes draws; answers are the most likely tokens, and the author's draws have their own settings"
_BEAMS = "it ranks beams; there are none"
_SPEED = "it changes how fast, not which tokens"
_OUTPUT = "it adds outputs that are not read"
IGNORED = {
    **dict.fromkeys(("do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff",
                     "eta_cutoff"), _SAMPLING),
    **dict.fromkeys(("length_penalty", "early_stopping", "low_memory"), _BEAMS),
    **dict.fromkeys(("use_cache", "max_cache_len", "cache_config", "compile_config", "disable_compile", "use_mtp",
                     "continuous_batching_config", "prefill_chunk_size", "is_assistant", "num_assistant_tokens",
                     "num_assistant_tokens_schedule", "assistant_confidence_threshold", "prompt_lookup_num_tokens",
                     "max_matching_ngram_size", "assistant_early_exit", "assistant_lookbehind", "target_lookbehind",
                     "assistant_ensemble_weight", "speculation_type"), _SPEED),
    **dict.fromkeys(("output_attentions", "output_hidden_states", "output_scores", "output_logits",
                     "return_dict_in_generate"), _OUTPUT),
    **dict.fromkeys(("max_length", "max_new_tokens"), "evaluation.max_new_tokens of the study limits an answer"),
    **dict.fromkeys(("pad_token_id", "bos_token_id"), "a prompt is written by the chat template, and not filled up"),
    "decoder_start_token_id": "it begins the text of a decoder behind an encoder; these models have none",
    "_from_model_config": "where the settings came from",
    "transformers_version": "where the settings came from",
}
REFUSED = {
    "num_beams": "searches by beams",
    "num_beam_groups": "searches by beams",
    "diversity_penalty": "searches by beams",
    "num_return_sequences": "asks for several answers",
    "constraints": "searches under constraints",
    "force_words_ids": "searches under constraints",
    "penalty_alpha": "is contrastive search",
    "dola_layers": "compares layers",
    "guidance_scale": "runs the model twice for every token",
    "encoder_repetition_penalty": "rewards the prompt's tokens",
    "encoder_no_repeat_ngram_size": "forbids the prompt's n-grams",
    "watermarking_config": "marks texts by changing tokens",
    "token_healing": "rewrites the prompt's end",
    "stop_strings": "stops at a text",
    "max_time": "stops by the clock, so that answers depend on the machine",
    "cache_implementation": "may round what is remembered",
}
WHOLE = {"cache_implementation": ("dynamic", "dynamic_full", "static", "hybrid", "sliding_window")}  # round nothing
TOKENS = ("eos_token_id", "bad_words_ids", "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens",
          "begin_suppress_tokens")


def check(family, place: str) -> None:
    """Raises ModelError naming a setting that cannot be followed; warns of names that transformers does not know."""
    given = asked(family.model.generation_config)
    for name, why in REFUSED.items():
        if name in given and given[name] not in WHOLE.get(name, ()):
            raise _refused(place, name, given[name], f"it {why}, which a study's decoding does not")
    size = family.model.get_input_embeddings().weight.shape[0]
    for name in TOKENS:
        if wrong := [token for token in _flat(given.get(name)) if not _token(token, size)]:
            raise _refused(place, name, given[name], f"{listed(map(repr, wrong))} is no token of {size}")
    if family.model.device.type != "meta":
        _tried(family, place, given)
    file = Path(place) / "generation_config.json"
    written = parsed(file) if file.is_file() else {}
    if unknown := sorted(set(written) - set(vars(GenerationConfig()))):
        warnings.warn(
            f"generation_config.json of {place!r} has {len(unknown)} settings that transformers does not know, so that "
            f"they change nothing: {listed(unknown)}.", stacklevel=2)


def asked(config: GenerationConfig) -> dict:
    """The settings that say anything: set, and not to what transformers takes without them."""
    usual = GenerationConfig._get_default_generation_params() | {"guidance_scale": 1, "token_healing": False}
    return {name: value for name, value in vars(config).items() if value is not None and value != usual.get(name)}


class Rules:
    """What the generation config does to the scores of each next token of several prompts, as `generate` does it.

    lengths: tokens of each prompt; limit: tokens of an answer at most; ends: tokens that end one. False where it does
    nothing. Raises ValueError, or what else transformers' processors raise about settings.
    """

    def __init__(self, model: torch.nn.Module, ends: Sequence[int], lengths: Sequence[int], limit: int):
        self.lengths = torch.tensor(lengths, dtype=torch.long)
        self.of = {length: processors(model, ends, length, limit) for length in sorted(set(lengths))}

    def __bool__(self) -> bool:
        return any(map(len, self.of.values()))

    def __call__(self, said: torch.Tensor, branches: torch.Tensor, step: int, scores: torch.Tensor) -> torch.Tensor:
        """[n, vocabulary] scores of branches [n] -> the same, float32, changed.

        said [n, width]: each branch's prompt and the `step` tokens of its answer, at the right end of the row.
        """
        made, lengths = scores.to(torch.float32, copy=True), self.lengths[branches.cpu()]
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0].to(scores.device)
            made[rows] = self.of[length](said[rows, said.shape[1] - length - step :], made[rows])
        return made


def processors(model: torch.nn.Module, ends: Sequence[int], length: int, limit: int) -> LogitsProcessorList:
    """Those that `generate` makes for greedy decoding behind a prompt of `length` tokens."""
    config = deepcopy(model.generation_config)
    config.do_sample, config.max_length = False, length + limit
    if config.min_new_tokens is not None:
        config.min_length = length + config.min_new_tokens
    config._eos_token_tensor = torch.tensor(list(ends), device=model.device)
    return model._get_logits_processor(config, input_ids_seq_length=length, device=model.device)


def contexts(packed: Packed) -> list[torch.Tensor]:
    """The tokens that each branch has seen, its image's prefix included, as `generate` is given them."""
    ids, image, branch = packed.ids[0].cpu(), packed.plan.image.cpu(), packed.plan.branch.cpu()
    return [ids[(image == image[last]) & ((branch == -1) | (branch == number))]
            for number, last in enumerate(packed.last.tolist())]


def aligned(rows: list[torch.Tensor]) -> torch.Tensor:
    """[Q, longest] rows of tokens, ending together; what stands before a shorter one is never read."""
    width = max(map(len, rows), default=0)
    filled = [torch.cat([row.new_zeros(width - len(row)), row]) for row in rows]
    return torch.stack(filled) if filled else torch.zeros((0, 0), dtype=torch.long)


@contextmanager
def plain(model: torch.nn.Module) -> Iterator[None]:
    """The model for a while without its generation config, as the author's draws are made."""
    kept, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = kept


def _tried(family, place: str, given: dict) -> None:
    """Raises ModelError where transformers' processors refuse a setting, or stumble over it."""
    said = torch.tensor([[family.end] * 3], device=family.model.device)
    scores = torch.zeros((1, family.model.get_input_embeddings().weight.shape[0]), device=family.model.device)
    try:
        rules = Rules(family.model, family.ends, [2], 2)
        rules(said, torch.tensor([0]), 1, scores)
    except Exception as error:  # of whatever kind the setting's type leads to
        mine = {name: value for name, value in given.items() if name in OBEYED}
        raise _refused(place, ", ".join(mine), list(mine.values()), str(error)) from error


def _flat(value) -> Iterator:
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _flat(one)
    elif value is not None:
        yield value


def _token(value, size: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < size


def _refused(place: str, name: str, value, why: str) -> ModelError:
    return ModelError(
        f"Answers must be those of the checkpoint's own `generate`, but generation_config.json of {place!r} sets "
        f"{name} to {value!r}: {why}. Take it out of a copy of the checkpoint, and say in the study that you did."
    )
