"""Batched shared-prefix decoding gives the tokens of one-by-one `generate`; rows record what was shown."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from medstudy import models
from medstudy.data import formats
from medstudy.data.example import Question, Shot
from medstudy.engine import views
from medstudy.engine.batches import FineTuning, size_of
from medstudy.engine.image_inputs import ImageInputs
from medstudy.errors import DataError, ResolutionError
from medstudy.evaluation import controls, evaluate, in_process
from medstudy.params import Decoding, Model, Optimisation
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Blind, DownUp, Fixed, Native, Shuffled
from medstudy.training import loop, train
from tests.support.families import BUILD, own_inputs

NATIVE = Native(max_pixels=10**6)
STUDY = SimpleNamespace(interpolation="bicubic", workers=0, evaluation=Decoding(max_new_tokens=8, tokens_per_pass=300))


@pytest.fixture(scope="module")
def trained(tiny_model, examples, tmp_path_factory):
    """A model that has learnt different answers for different images and questions, so that greedy paths differ."""
    family = models.load(tiny_model)
    options = Optimisation(epochs=60, images_per_step=2, learning_rate=3e-3, validations=1)
    supply = ImageInputs(family, "bicubic")
    seen = FineTuning(supply, examples, NATIVE, options, 0)
    loss = partial(train.loss_of, supply)
    loop.fit(family.model, seen, None, options, 0, tmp_path_factory.mktemp("scratch"), loss)
    return family


def _asked(family, examples, policy, **options):
    """Greedy answers and option likelihoods of every example, in order."""
    shown = [plan(policy, size_of(example), family.geometry)[0] for example in examples]
    made = in_process.answers(ImageInputs(family, "bicubic"), examples, examples, shown, Decoding(**options))
    return [content[:2] for _, content in sorted(made)]


def _one_by_one(family, example, view, question):
    """The reference: the processor's own inputs for one question, through transformers' generate."""
    text = family.prompt(question, view.visual_tokens > 0)
    inputs = own_inputs(family, text, views.render(example.image, view, "bicubic") if view.visual_tokens else None)
    family.model.model.rope_deltas = None
    with torch.inference_mode():
        out = family.model.generate(**inputs, max_new_tokens=8, do_sample=False)
    family.model.model.rope_deltas = None
    return family.text(out[0, inputs["input_ids"].shape[1] :].tolist())


@pytest.mark.parametrize("policy", [NATIVE, Fixed(side=56), Blind()], ids=lambda p: p.label)
def test_answers_equal_generate(trained, examples, policy):
    texts = [said for said, _ in _asked(trained, examples, policy, max_new_tokens=8)]
    expected = [
        [
            _one_by_one(trained, example, plan(policy, size_of(example), trained.geometry)[0], question)
            for question in example.questions
        ]
        for example in examples
    ]
    assert texts == expected
    if policy is NATIVE:
        assert len({text for texts in expected for text in texts}) > 2  # not the same answer to everything


def test_answers_end_and_repeat_as_the_checkpoint_asks_of_generate(tiny_model, examples):
    """Released Qwen2.5-VL checkpoints, for example, have two end tokens and a repetition penalty."""
    family = models.load(tiny_model)
    with torch.no_grad():
        for parameter in family.model.parameters():
            parameter.mul_(5 if parameter.ndim >= 2 else 1)
    shown = [plan(NATIVE, size_of(example), family.geometry)[0] for example in examples]
    asked = [(example, view, question)
             for example, view in zip(examples, shown, strict=True) for question in example.questions]
    plain = [text for said, _ in _asked(family, examples, NATIVE, max_new_tokens=8) for text in said]
    settings = family.model.generation_config
    settings.repetition_penalty = 1.3
    often = max(range(len(family.processor.tokenizer)), key=lambda token: sum(token in family.ids(t) for t in plain))
    settings.eos_token_id = [settings.eos_token_id, often]
    said = [text for said, _ in _asked(family, examples, NATIVE, max_new_tokens=8) for text in said]
    ended = [_one_by_one(family, *one).removesuffix(family.text([often])).strip() for one in asked]
    assert said == ended and said != plain
    assert len({len(family.ids(text)) for text in said}) > 1


@pytest.mark.parametrize("name", BUILD)
def test_answers_of_every_family_equal_generate(checkpoints, examples, name):
    family = models.load(Model(id=str(checkpoints[name]), family=name))
    with torch.no_grad():
        for parameter in family.model.parameters():
            parameter.mul_(5 if parameter.ndim >= 2 else 1)
    said, scored = zip(*_asked(family, examples, NATIVE, max_new_tokens=8, option_likelihoods=True), strict=True)
    views_ = [plan(NATIVE, size_of(example), family.geometry)[0] for example in examples]
    expected = [
        [_one_by_one(family, example, view, question) for question in example.questions]
        for example, view in zip(examples, views_, strict=True)
    ]
    assert list(said) == expected and len({text for texts in expected for text in texts}) > 4
    for example, view, (_, _, scores) in zip(examples, views_, scored, strict=True):
        expected = [_log_likelihood(family, example, view, example.questions[2], letter) for letter in "AB"]
        assert scores == pytest.approx(expected, abs=1e-4)


def test_options_are_scored_as_they_are_one_by_one(trained, examples):
    scored = [scores for _, scores in _asked(trained, examples, NATIVE, max_new_tokens=4, option_likelihoods=True)]
    for example, (closed, open_, choice) in zip(examples, scored, strict=True):
        assert closed == open_ == []
        view = plan(NATIVE, size_of(example), trained.geometry)[0]
        expected = [_log_likelihood(trained, example, view, example.questions[2], letter) for letter in "AB"]
        assert choice == pytest.approx(expected, abs=1e-4)
        best = "AB"[choice.index(max(choice))]
        assert best == _one_by_one(trained, example, view, example.questions[2])


def test_options_in_words_are_scored_as_they_are_one_by_one(trained, examples):
    choice = Question("where", "Where is it?", "A", "choice", "where", options=("red", "upper left", "upper left dot"))
    worded = [replace(example, questions=formats.asked((*example.questions[:2], choice))) for example in examples]
    scored = [scores for _, scores in _asked(trained, worded, NATIVE, max_new_tokens=4, option_likelihoods=True)]
    for example, (closed, open_, words) in zip(worded, scored, strict=True):
        assert closed == open_ == []
        view, question = plan(NATIVE, size_of(example), trained.geometry)[0], example.questions[2]
        assert question.kind == "class" and len({len(trained.ids(option)) for option in question.options}) == 3
        expected = [_log_likelihood(trained, example, view, question, option) for option in question.options]
        assert words == pytest.approx(expected, abs=1e-4)


def _log_likelihood(family, example, view, question, answer):
    """The reference: the whole sequence through the model's own forward pass."""
    image = views.render(example.image, view, "bicubic")
    ids = torch.tensor([family.answer_ids(answer)])
    inputs = own_inputs(family, family.prompt(question), image, ids[0].tolist())
    family.model.model.rope_deltas = None
    with torch.no_grad():
        scores = family.model(**inputs).logits[0, -ids.shape[1] - 1 : -1].log_softmax(-1)
    family.model.model.rope_deltas = None
    return float(scores.gather(1, ids.T).sum())


def test_an_image_that_fits_in_no_pass_is_named(trained, examples):
    with pytest.raises(ResolutionError, match="train-2 of made at 140x196.*tokens_per_pass"):
        _asked(trained, examples, NATIVE, tokens_per_pass=100)


def test_workers_read_ahead_and_change_nothing(trained, examples):
    ahead = SimpleNamespace(**vars(STUDY) | {"workers": 1})
    pd.testing.assert_frame_equal(
        evaluate.predict(trained, examples, NATIVE, STUDY), evaluate.predict(trained, examples, NATIVE, ahead)
    )


def test_rows_record_sizes_prompt_and_answer(trained, examples):
    rows = evaluate.predict(trained, examples, Fixed(side=84), STUDY)
    assert len(rows) == 3 * len(examples)
    row = rows[(rows["image_id"] == "train-2") & (rows["question_id"] == "where")].iloc[0]
    assert (row["height"], row["width"]) == (140, 196)
    assert (row["shown_height"], row["shown_width"], row["visual_tokens"]) == (56, 84, 6)
    assert row["scale"] == pytest.approx((56 * 84 / (140 * 196)) ** 0.5)
    assert row["prompt"].count("<|image_pad|>") == 1
    assert row["inference"] == "fixed-84" and row["control"] == "none" and row["budget_pixels"] == 7056
    assert row["answer"] == "upper left" and isinstance(row["raw_text"], str)


def test_rows_of_several_images_record_each(trained, examples):
    first, second, *others = examples
    several = [replace(first, context=(Shot(second.image, "Where?", "here"), Shot(others[0].image))), *others]
    rows = evaluate.predict(trained, several, Fixed(side=84), STUDY)
    row = rows[rows["image_id"] == first.image_id].iloc[0]
    assert list(row["context_sizes"]) == ["112x112 at 84x84", "140x196 at 56x84"]
    assert (row["height"], row["width"], row["shown_height"], row["shown_width"]) == (56, 84, 56, 84)
    assert row["visual_tokens"] == 9 + 6 + 6 == row["prompt"].count("<|image_pad|>") + 18
    assert list(rows[rows["image_id"] == others[0].image_id]["context_sizes"].iloc[0]) == []
    shuffled = evaluate.predict(trained, several, Shuffled(native=NATIVE), STUDY)
    row = shuffled[shuffled["image_id"] == first.image_id].iloc[0]
    assert len(row["context_sizes"]) == 2 and (row["height"], row["width"]) != (56, 84)
    blind = evaluate.predict(trained, several, Blind(), STUDY)
    assert not blind["prompt"].str.contains("image_pad").any() and blind["prompt"].str.contains("here").any()


def test_controls_show_what_they_promise(trained, examples):
    blind = evaluate.predict(trained, examples, Blind(), STUDY)
    assert (blind["visual_tokens"] == 0).all() and not blind["prompt"].str.contains("image_pad").any()
    native = evaluate.predict(trained, examples, NATIVE, STUDY)
    down_up = evaluate.predict(trained, examples, DownUp(side=56, native=NATIVE), STUDY)
    assert (down_up["visual_tokens"] == native["visual_tokens"]).all()
    shuffled = evaluate.predict(trained, examples, Shuffled(native=NATIVE), STUDY)
    assert (shuffled["height"] != native["height"]).any()
    assert set(shuffled["control"]) == {"shuffled"} and set(native["control"]) == {"none"}


def test_rows_keep_the_set_and_the_tags_of_a_question_through_parquet(trained, examples, tmp_path):
    first, *others = examples[0].questions
    told = replace(examples[0], questions=(replace(first, set_id="pair", tags=("a=x", "b=y")), *others))
    evaluate.predict(trained, [told, examples[1]], NATIVE, STUDY).to_parquet(tmp_path / "rows.parquet")
    rows = pd.read_parquet(tmp_path / "rows.parquet").set_index(["image_id", "question_id"])
    row = rows.loc[("train-0", "dot")]
    assert row["set_id"] == "pair" and list(row["tags"]) == ["a=x", "b=y"] and rows["set_id"].notna().sum() == 1


def test_swapping_never_keeps_an_image_and_stays_in_the_family(examples):
    swapped = controls.swapped(examples)
    assert all(a.image_id != b.image_id and a.family == b.family for a, b in zip(examples, swapped, strict=True))
    assert sorted(example.image_id for example in swapped) == sorted(example.image_id for example in examples)


def test_the_only_one_of_a_family_is_shown_the_next_image_of_all(examples):
    odd = [*examples[:2], replace(examples[2], family="odd"), examples[3]]
    assert [example.image_id for example in controls.swapped(odd)] == ["train-1", "train-3", "train-3", "train-0"]
    with pytest.raises(DataError, match="another image, but the test split has 1"):
        controls.swapped(examples[:1])


def test_predictions_do_not_depend_on_the_packing(trained, examples):
    study = SimpleNamespace(**vars(STUDY) | {"evaluation": Decoding(max_new_tokens=8, tokens_per_pass=165)})
    together = evaluate.predict(trained, examples, NATIVE, STUDY)
    alone = evaluate.predict(trained, examples, NATIVE, study)
    assert together["raw_text"].tolist() == alone["raw_text"].tolist()
