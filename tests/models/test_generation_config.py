"""Every setting of a checkpoint's generation config acts as in `generate`, or is refused by name."""

from __future__ import annotations

import json
from itertools import chain

import pytest
import torch
from transformers import GenerationConfig

from medstudy import models
from medstudy.engine import views
from medstudy.engine.batches import size_of
from medstudy.engine.image_inputs import ImageInputs
from medstudy.errors import ModelError
from medstudy.evaluation import decode
from medstudy.evaluation import passes as evaluation_passes
from medstudy.models import generation_config
from medstudy.params import Decoding, Model
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Native
from tests.support import altered
from tests.support.families import own_inputs

NATIVE, LIMIT = Native(max_pixels=10**6), 7
FIELDS = set(vars(GenerationConfig()))


@pytest.fixture(scope="module")
def sharp(tiny_model):
    """Weights that make the tiny model give varied answers."""
    family = models.load(tiny_model)
    with torch.no_grad():
        for parameter in family.model.parameters():
            parameter.mul_(5 if parameter.ndim >= 2 else 1)
    return family


@pytest.fixture
def asked(sharp, examples):
    """Questions of two images whose prompts differ in length, and a generation config that a test may change."""
    kept, sharp.model.generation_config = sharp.model.generation_config, GenerationConfig()
    yield sharp, examples[:2]
    sharp.model.generation_config = kept


def _ours(family, examples) -> list[list[int]]:
    supply, shown = ImageInputs(family, "bicubic"), [plan(NATIVE, size_of(one), family.geometry)[0] for one in examples]
    passes = evaluation_passes.Passes(supply, examples, examples, shown, Decoding(max_new_tokens=LIMIT))
    assert len(passes) == 1
    group, packed, _, images = passes[0]
    with torch.inference_mode():
        said = iter(decode.decode(family, packed, supply.visual_tokens(images, packed.grids), LIMIT)[0])
    made = {index: [next(said) for _ in examples[index].questions] for index in group}
    return [tokens for index in sorted(made) for tokens in made[index]]


def _theirs(family, examples) -> list[list[int]]:
    """Each question by itself through transformers' own `generate`."""
    said = []
    for one in examples:
        image = views.render(one.image, plan(NATIVE, size_of(one), family.geometry)[0], "bicubic")
        for question in one.questions:
            inputs = own_inputs(family, family.prompt(question), image)
            family.model.model.rope_deltas = None
            options = {"max_new_tokens": LIMIT, "do_sample": False, "eos_token_id": list(family.ends)}
            with torch.inference_mode():
                out = family.model.generate(**inputs, **options, pad_token_id=family.end)
            said.append(out[0, inputs["input_ids"].shape[1] :].tolist())
    return [[token for token in tokens if token not in family.ends] for tokens in said]


def _settings(family, plain: list[list[int]], lengths: list[int]) -> dict[str, dict]:
    """Every obeyed setting, with a value that changes at least one answer."""
    often = max(set(chain(*plain)), key=[*chain(*plain)].count)
    first = plain[0][0]
    return {
        "eos_token_id": {"eos_token_id": [family.end, often]},
        "min_length": {"eos_token_id": [often], "min_length": max(lengths) + 3},
        "min_new_tokens": {"eos_token_id": [often], "min_new_tokens": 4},
        "repetition_penalty": {"repetition_penalty": 1.5},
        "no_repeat_ngram_size": {"no_repeat_ngram_size": 1},
        "bad_words_ids": {"bad_words_ids": [[first], plain[1][:2]]},
        "sequence_bias": {"sequence_bias": [[[first], -50.0], [plain[2][:2], -50.0]]},
        "forced_bos_token_id": {"forced_bos_token_id": often},
        "forced_eos_token_id": {"forced_eos_token_id": often},
        "remove_invalid_values": {"remove_invalid_values": True},
        "renormalize_logits": {"renormalize_logits": True},
        "exponential_decay_length_penalty": {"exponential_decay_length_penalty": (1, 4.0)},
        "suppress_tokens": {"suppress_tokens": [first, often]},
        "begin_suppress_tokens": {"begin_suppress_tokens": [first]},
    }


UNSEEN = {"forced_bos_token_id", "remove_invalid_values", "renormalize_logits"}  # they change no greedy answer here


def rules(family, length, limit):
    return generation_config.Rules(family.model, family.ends, [length], limit)


@pytest.mark.parametrize("name", generation_config.OBEYED)
def test_answers_are_those_of_generate_under_every_setting_that_is_obeyed(asked, name):
    family, examples = asked
    plain = _ours(family, examples)
    lengths = [len(family.ids(family.prompt(q))) + 9 for one in examples for q in one.questions]
    family.model.generation_config = GenerationConfig(**_settings(family, plain, lengths)[name])
    generation_config.check(family, "made")
    ours = _ours(family, examples)
    assert ours == _theirs(family, examples)
    assert (ours != plain) == (name not in UNSEEN)


def test_several_settings_at_once_are_those_of_generate(asked):
    family, examples = asked
    plain = _ours(family, examples)
    together = {"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "min_new_tokens": 3}
    family.model.generation_config = GenerationConfig(**together, suppress_tokens=[plain[0][0]])
    ours = _ours(family, examples)
    assert ours == _theirs(family, examples) != plain


def test_every_field_of_transformers_is_obeyed_ignored_for_a_reason_or_refused():
    """Fails for a field that a later release adds, until it is put in one of the three classes."""
    classes = [set(generation_config.OBEYED), set(generation_config.IGNORED), set(generation_config.REFUSED)]
    assert not FIELDS - set().union(*classes)
    assert sum(map(len, classes)) == len(set().union(*classes))
    assert all(generation_config.IGNORED.values()) and all(generation_config.REFUSED.values())


ODD = {"watermarking_config": {"greenlist_ratio": 0.3}, "stop_strings": ["\n"], "constraints": ["x"],
       "force_words_ids": [[3]], "dola_layers": "high", "token_healing": True,
       "cache_implementation": "quantized"}


@pytest.mark.parametrize("name", sorted(generation_config.REFUSED))
def test_a_setting_that_cannot_be_obeyed_is_refused_by_name(sharp, name):
    kept = sharp.model.generation_config
    sharp.model.generation_config = GenerationConfig()
    setattr(sharp.model.generation_config, name, ODD.get(name, 3))
    try:
        with pytest.raises(ModelError, match=rf"generation_config.json of 'made' sets {name} to "):
            generation_config.check(sharp, "made")
    finally:
        sharp.model.generation_config = kept


@pytest.mark.parametrize("name", sorted(set(generation_config.IGNORED) - {"transformers_version"}))
def test_a_setting_that_changes_no_greedy_answer_is_accepted(sharp, name):
    kept = sharp.model.generation_config
    sharp.model.generation_config = GenerationConfig()
    setattr(sharp.model.generation_config, name, 1)
    try:
        generation_config.check(sharp, "made")
        assert not rules(sharp, 5, 3)
    finally:
        sharp.model.generation_config = kept


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({"suppress_tokens": [10**7]}, "suppress_tokens.*10000000 is not one of"),
        ({"bad_words_ids": [["word"]]}, "bad_words_ids.*'word' is not one of"),
        ({"eos_token_id": [-1]}, "eos_token_id.*-1 is not one of"),
        ({"no_repeat_ngram_size": "3"}, "no_repeat_ngram_size"),
        ({"repetition_penalty": -1.0}, "repetition_penalty"),
        ({"min_new_tokens": 2.5}, "min_new_tokens"),
        ({"exponential_decay_length_penalty": 3}, "exponential_decay_length_penalty"),
        ({"num_beams": 4}, "num_beams"),
        ({"guidance_scale": 2.0}, "guidance_scale"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_a_checkpoint_whose_settings_cannot_be_followed_does_not_load(tiny_model, tmp_path, entries, named):
    folder = altered.copy(tiny_model.id, tmp_path / "other", generation_config=entries)
    with pytest.raises(ModelError, match=named):
        models.load(Model(id=str(folder)))


def test_a_checkpoints_own_settings_are_read_and_kept(tiny_model, tmp_path):
    entries = {"min_new_tokens": 3, "do_sample": True, "temperature": 0.1, "num_beams": 1, "guidance_scale": 1.0}
    folder = altered.copy(tiny_model.id, tmp_path / "other", generation_config=entries)
    family = models.load(Model(id=str(folder)))
    assert rules(family, 5, 4) and not rules(models.load(tiny_model), 5, 4)
    family.model.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "generation_config.json").read_text())["min_new_tokens"] == 3


def test_settings_that_transformers_does_not_know_are_counted(tiny_model, tmp_path):
    entries = {"min_new_token": 3, "chat_format": "raw"}
    folder = altered.copy(tiny_model.id, tmp_path / "other", generation_config=entries)
    with pytest.warns(UserWarning, match="2 settings that transformers does not know.*chat_format, min_new_token"):
        models.load(Model(id=str(folder)))
