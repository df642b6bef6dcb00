"""The author's report: answers sampled in the same pass as greedy ones, and metrics next to the standard ones."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from transformers import LogitsProcessorList

from medstudy import models, params, paths
from medstudy.costs import workload
from medstudy.engine import views
from medstudy.engine.batches import size_of
from medstudy.evaluation import evaluate, sampling
from medstudy.evaluation.sampling import Sampler
from medstudy.params import Author, Decoding, Model
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Blind, Fixed, Native
from medstudy.utils.seeding import token_uniform
from tests.support.families import own_inputs

NATIVE = Native(max_pixels=10**6)
AUTHOR = Author(temperature=0.7, max_new_tokens=6)


def _study(**changes):
    decoding = Decoding(**{"max_new_tokens": 8, "tokens_per_pass": 1000, "author": AUTHOR} | changes)
    return SimpleNamespace(interpolation="bicubic", workers=0, evaluation=decoding)


def _sharper(family):
    """Random weights five times as large make some tokens much more likely than others, but none certain."""
    with torch.no_grad():
        for parameter in family.model.parameters():
            parameter.mul_(5 if parameter.ndim >= 2 else 1)
    return family


@pytest.fixture(scope="module")
def sharp(tiny_model):
    return _sharper(models.load(tiny_model))


def _sampled(frame):
    return frame[frame["decoding"] != "greedy"].reset_index(drop=True)


def test_one_pass_gives_both_answers_and_greedy_ones_do_not_change(sharp, examples, monkeypatch):
    alone = evaluate.predict(sharp, examples, NATIVE, _study(author=None))
    passes, full = [], type(sharp).hidden
    monkeypatch.setattr(type(sharp), "hidden", lambda *given: passes.append(1) or full(*given))
    both = evaluate.predict(sharp, examples, NATIVE, _study())
    assert len(passes) == 1 and len(both) == 2 * len(alone)
    greedy = both[both["decoding"] == "greedy"].reset_index(drop=True)
    pd.testing.assert_frame_equal(greedy, alone)
    sampled = _sampled(both)
    assert set(sampled["decoding"]) == {"sampled-0.7"}
    columns = ["raw_text", "decoding"]
    pd.testing.assert_frame_equal(sampled.drop(columns=columns), alone.drop(columns=columns))
    assert (sampled["raw_text"] != alone["raw_text"]).any()


def _one_by_one(family, example, question, rung, seed):
    """The reference: one question through transformers' `generate`, with the same random numbers."""
    view = plan(rung, size_of(example), family.geometry)[0]
    inputs = own_inputs(family, family.prompt(question), views.render(example.image, view, "bicubic"))
    key = sampling.key(seed, example.dataset, example.image_id, question.id, rung.label)
    draws = sampling.Draws(Sampler(AUTHOR.temperature, AUTHOR.max_new_tokens, (key,)))
    if hasattr(family.model.model, "rope_deltas"):
        family.model.model.rope_deltas = None
    settings = {"max_new_tokens": AUTHOR.max_new_tokens, "do_sample": False, "repetition_penalty": 1.0}
    with torch.inference_mode():
        out = family.model.generate(**inputs, **settings, logits_processor=LogitsProcessorList([draws]))
    return family.text(out[0, inputs["input_ids"].shape[1] :].tolist())


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl", "internvl"])
def test_sampled_answers_equal_those_of_generate_with_the_same_random_numbers(checkpoints, examples, name):
    """Greedy answers leave nothing in the cache that matters; a repetition penalty applies only to them."""
    family = _sharper(models.load(Model(id=str(checkpoints[name]), family=name)))
    family.model.generation_config.repetition_penalty = 1.3
    rows = _sampled(evaluate.predict(family, examples[:3], NATIVE, _study(tokens_per_pass=8192), seed=3))
    pairs = ((example, question) for example in examples for question in example.questions)
    questions = {(example.image_id, question.id): (example, question) for example, question in pairs}
    expected = [_one_by_one(family, *questions[row.image_id, row.question_id], NATIVE, 3) for row in rows.itertuples()]
    assert rows["raw_text"].tolist() == expected and len(set(expected)) > 4


@pytest.fixture
def spelt(sharp, monkeypatch):
    """The same model with token numbers as texts, because single bytes all decode to the same text."""
    monkeypatch.setattr(type(sharp), "text", lambda self, ids: " ".join(str(i) for i in ids if i not in self.ends))
    return sharp


def test_first_tokens_are_distributed_as_the_softmax_says(spelt, examples):
    """A chi-squared test over 1,800 questions with the same text and different names."""
    sharp = spelt
    example, temperature = examples[0], 0.4
    repeated = replace(example, questions=tuple(replace(example.questions[1], id=str(number)) for number in range(60)))
    study = _study(max_new_tokens=1, author=Author(temperature=temperature, max_new_tokens=1), tokens_per_pass=9999)
    view = plan(NATIVE, size_of(example), sharp.geometry)[0]
    rows = [_sampled(evaluate.predict(sharp, [repeated], NATIVE, study, seed=seed)) for seed in range(30)]
    seen = Counter(pd.concat(rows)["raw_text"])
    inputs = own_inputs(sharp, sharp.prompt(example.questions[1]), views.render(example.image, view, "bicubic"))
    sharp.model.model.rope_deltas = None
    with torch.no_grad():
        chances = (sharp.model(**inputs).logits[0, -1].double() / temperature).softmax(-1)
    sharp.model.model.rope_deltas = None
    texts = [sharp.text([token]) for token in range(len(chances))]
    share = pd.Series(chances.numpy()).groupby(texts).sum()
    often = share.index[share * 1800 >= 10]
    counts = [*(seen[text] for text in often), 1800 - sum(seen[text] for text in often)]
    expected = 1800 * np.array([*share[often], 1 - share[often].sum()])
    assert len(often) > 8 and max(expected) < 900
    assert stats.chisquare(counts, expected).pvalue > 0.01


def test_two_tokens_are_distributed_like_samples_of_generate(spelt, examples):
    """Whole answers against 500 of `generate(do_sample=True)`, without truncation."""
    sharp = spelt
    example, temperature, question = examples[1], 0.15, examples[1].questions[0]
    repeated = replace(example, questions=tuple(replace(question, id=str(number)) for number in range(50)))
    study = _study(max_new_tokens=1, author=Author(temperature=temperature, max_new_tokens=2), tokens_per_pass=9999)
    ours = pd.concat(
        [_sampled(evaluate.predict(sharp, [repeated], NATIVE, study, seed=seed)) for seed in range(10)]
    )["raw_text"]
    view = plan(NATIVE, size_of(example), sharp.geometry)[0]
    inputs = own_inputs(sharp, sharp.prompt(question), views.render(example.image, view, "bicubic"))
    sharp.model.model.rope_deltas = None
    torch.manual_seed(0)
    with torch.inference_mode():
        out = sharp.model.generate(**inputs, do_sample=True, temperature=temperature, top_k=0, top_p=1.0,
                                   max_new_tokens=2, num_return_sequences=500)
    sharp.model.model.rope_deltas = None
    theirs = [sharp.text(row) for row in out[:, inputs["input_ids"].shape[1] :].tolist()]
    table = pd.DataFrame({"ours": ours.value_counts(), "theirs": pd.Series(theirs).value_counts()}).fillna(0)
    often = table[table.sum(axis=1) >= 10]
    table = pd.concat([often, (table.sum() - often.sum()).to_frame().T])
    assert len(often) > 8 and often.index.str.contains(" ").any()
    assert stats.chi2_contingency(table).pvalue > 0.01


def test_without_temperature_answers_are_greedy(sharp, examples):
    author = Author(temperature=1e-6, max_new_tokens=8)
    rows = evaluate.predict(sharp, examples, NATIVE, _study(author=author))
    greedy = rows.loc[rows["decoding"] == "greedy", "raw_text"]
    assert _sampled(rows)["raw_text"].tolist() == greedy.tolist() and greedy.nunique() > 4


def test_draws_do_not_depend_on_packing_order_or_other_questions(sharp, examples):
    together = _sampled(evaluate.predict(sharp, examples, NATIVE, _study()))
    alone = _sampled(evaluate.predict(sharp, examples[::-1], NATIVE, _study(tokens_per_pass=165)))
    pd.testing.assert_frame_equal(together, alone)
    fewer = [replace(example, questions=example.questions[2:]) for example in examples[2:]]  # as after a restart
    rest = _sampled(evaluate.predict(sharp, fewer, NATIVE, _study()))
    kept = together["image_id"].isin([example.image_id for example in fewer]) & (together["question_id"] == "colour")
    assert rest["raw_text"].tolist() == together.loc[kept, "raw_text"].tolist()


def test_draws_differ_by_seed_rung_image_question_and_place():
    names = [(0, "d", "i", "q", "native"), (1, "d", "i", "q", "native"), (0, "e", "i", "q", "native"),
             (0, "d", "j", "q", "native"), (0, "d", "i", "r", "native"), (0, "d", "i", "q", "fixed-84"),
             (0, "d", "i, q", "", "native")]
    numbers = [token_uniform(sampling.key(*name), step) for name in names for step in range(3)]
    assert len(set(numbers)) == len(numbers) and all(0 <= number < 1 for number in numbers)
    many = [token_uniform(sampling.key(seed), 0) for seed in range(2000)]
    assert stats.kstest(many, "uniform").pvalue > 0.01


def test_another_seed_draws_other_answers_and_a_control_none(sharp, examples):
    first, second = (_sampled(evaluate.predict(sharp, examples, NATIVE, _study(), seed=seed)) for seed in (0, 1))
    assert (first["raw_text"] != second["raw_text"]).any()
    assert set(evaluate.predict(sharp, examples, Blind(), _study())["decoding"]) == {"greedy"}


def test_the_estimate_counts_the_sampled_tokens_of_rungs_but_of_no_control(tiny_model, examples):
    content = params.load(paths.ROOT / "params" / "tiny.yaml").model_dump(mode="json")
    counts = {}
    for author in (None, {"temperature": 0.2, "max_new_tokens": 2}):
        changes = {"model": tiny_model.model_dump(), "evaluation": {"max_new_tokens": 4, "author": author}}
        study = params.parse(content | changes)
        counter = workload.Counter(study, models.sketch(study.model))
        counts[author is None] = [counter.evaluation(examples, [policy], length=4) for policy in (NATIVE, Blind())]
    (greedy, blind), (both, same) = counts[True], counts[False]
    assert both.turns == greedy.turns + 1 and both.flops > greedy.flops  # one more token after the first
    assert (same.turns, same.flops) == (blind.turns, blind.flops)


def test_a_rung_below_native_is_sampled_too(sharp, examples):
    rows = evaluate.predict(sharp, examples[:1], Fixed(side=56), _study())
    assert rows["decoding"].tolist() == ["greedy", "sampled-0.7"] * 3
