"""The settings of a checkpoint's generation_config.json: each is obeyed, has no effect, or is refused.

Answers are decoded greedily from a shared prefix (`medstudy.evaluation`), not by `generate`. The scores of each next
token pass through the `LogitsProcessorList` that `generate` would make, so the answers are those of `generate`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList

from medstudy.engine.row_layout import PackedRow
from medstudy.errors import ModelError
from medstudy.models.checkpoint_files import listed, parsed
from medstudy.models.family import Family

OBEYED = (
    "eos_token_id", "min_length", "min_new_tokens", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids",
    "sequence_bias", "renormalize_logits", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
    "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
)
_SAMPLING = "it shapes sampling; answers are greedy, and the author's sampling has its own settings"
_BEAMS = "it ranks beams, and there are none"
_SPEED = "it changes the speed, not the tokens"
_OUTPUT = "it adds outputs that nothing reads"
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
    **dict.fromkeys(("max_length", "max_new_tokens"), "the study's evaluation.max_new_tokens limits an answer"),
    **dict.fromkeys(("pad_token_id", "bos_token_id"), "the chat template writes a prompt, which is not padded"),
    "decoder_start_token_id": "it starts the decoder of an encoder-decoder model, and these are none",
    "_from_model_config": "it records where the settings came from",
    "transformers_version": "it records where the settings came from",
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
    "encoder_repetition_penalty": "rewards tokens of the prompt",
    "encoder_no_repeat_ngram_size": "forbids the prompt's n-grams",
    "watermarking_config": "marks texts by changing tokens",
    "token_healing": "rewrites the prompt's end",
    "stop_strings": "stops at a text",
    "max_time": "stops by the clock, so that answers depend on the machine",
    "cache_implementation": "may round cached keys and values",
}
WHOLE = {"cache_implementation": ("dynamic", "dynamic_full", "static", "hybrid", "sliding_window")}  # no rounding
TOKENS = ("eos_token_id", "bad_words_ids", "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens",
          "begin_suppress_tokens")


def check(family: Family, source: str) -> None:
    """Raises ModelError naming a setting that cannot be followed; warns of settings that transformers does not know."""
    settings = changed(family.model.generation_config)
    for name, why in REFUSED.items():
        if name in settings and settings[name] not in WHOLE.get(name, ()):
            raise _refused(source, name, settings[name], f"it {why}, which a study's decoding does not do")
    size = family.model.get_input_embeddings().weight.shape[0]
    for name in TOKENS:
        if wrong := [token for token in _flat(settings.get(name)) if not _is_token(token, size)]:
            raise _refused(source, name, settings[name], f"{listed(map(repr, wrong))} is not one of {size} tokens")
    if family.model.device.type != "meta":
        _try(family, source, settings)
    file = Path(source) / "generation_config.json"
    written = parsed(file) if file.is_file() else {}
    if unknown := sorted(set(written) - set(vars(GenerationConfig()))):
        warnings.warn(
            f"generation_config.json of {source!r} has {len(unknown)} settings that transformers does not know and "
            f"that change nothing: {listed(unknown)}.", stacklevel=2)


def changed(config: GenerationConfig) -> dict[str, Any]:
    """The settings that differ from transformers' defaults."""
    defaults = GenerationConfig._get_default_generation_params() | {"guidance_scale": 1, "token_healing": False}
    return {name: value for name, value in vars(config).items() if value is not None and value != defaults.get(name)}


class Rules:
    """What the generation config does to the scores of the next tokens of several prompts, as `generate` does it.

    lengths: tokens of each prompt. limit: the most tokens of an answer. ends: tokens that end an answer. False if the
    config changes no scores. Raises ValueError, or what else transformers' processors raise about settings.
    """

    def __init__(self, model: torch.nn.Module, ends: Sequence[int], lengths: Sequence[int], limit: int):
        self.lengths = torch.tensor(lengths, dtype=torch.long)
        self.of = {length: processors(model, ends, length, limit) for length in sorted(set(lengths))}

    def __bool__(self) -> bool:
        return any(map(len, self.of.values()))

    def __call__(self, tokens: torch.Tensor, branches: torch.Tensor, step: int, scores: torch.Tensor) -> torch.Tensor:
        """[n, vocabulary] scores of branches [n] -> the same in float32, changed.

        tokens [n, width]: each branch's prompt and the `step` tokens of its answer, aligned at the right.
        """
        result, lengths = scores.to(torch.float32, copy=True), self.lengths[branches.cpu()]
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0].to(scores.device)
            result[rows] = self.of[length](tokens[rows, tokens.shape[1] - length - step :], result[rows])
        return result


def processors(model: torch.nn.Module, ends: Sequence[int], length: int, limit: int) -> LogitsProcessorList:
    """Those that `generate` makes for greedy decoding after a prompt of `length` tokens."""
    config = deepcopy(model.generation_config)
    config.do_sample, config.max_length = False, length + limit
    if config.min_new_tokens is not None:
        config.min_length = length + config.min_new_tokens
    config._eos_token_tensor = torch.tensor(list(ends), device=model.device)
    return model._get_logits_processor(config, input_ids_seq_length=length, device=model.device)


def contexts(packed: PackedRow) -> list[torch.Tensor]:
    """The tokens before each branch's answer, including its image's prefix, as `generate` gets them."""
    ids, image, branch = packed.ids[0].cpu(), packed.layout.image.cpu(), packed.layout.branch.cpu()
    return [ids[(image == image[last]) & ((branch == -1) | (branch == number))]
            for number, last in enumerate(packed.last.tolist())]


def aligned(rows: list[torch.Tensor]) -> torch.Tensor:
    """[Q, longest] rows of tokens, aligned at the right; the padding before a shorter one is never read."""
    width = max(map(len, rows), default=0)
    padded = [torch.cat([row.new_zeros(width - len(row)), row]) for row in rows]
    return torch.stack(padded) if padded else torch.zeros((0, 0), dtype=torch.long)


@contextmanager
def plain(model: torch.nn.Module) -> Iterator[None]:
    """The model without its generation config, as for the author's sampled answers."""
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _try(family: Family, source: str, settings: dict[str, Any]) -> None:
    """Raises ModelError where transformers' processors refuse a setting or fail on it."""
    tokens = torch.tensor([[family.end] * 3], device=family.model.device)
    scores = torch.zeros((1, family.model.get_input_embeddings().weight.shape[0]), device=family.model.device)
    try:
        rules = Rules(family.model, family.ends, [2], 2)
        rules(tokens, torch.tensor([0]), 1, scores)
    except Exception as error:  # of any type, as a setting may have a wrong type
        obeyed = {name: value for name, value in settings.items() if name in OBEYED}
        raise _refused(source, ", ".join(obeyed), list(obeyed.values()), str(error)) from error


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _flat(part)
    elif value is not None:
        yield value


def _is_token(value: Any, size: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < size


def _refused(source: str, name: str, value: Any, why: str) -> ModelError:
    return ModelError(
        f"Answers must be those of the checkpoint's own `generate`, but generation_config.json of {source!r} sets "
        f"{name} to {value!r}: {why}. Remove it from a copy of the checkpoint, and report that change with the study."
    )
