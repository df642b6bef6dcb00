"""Evaluation: batched shared-prefix decoding gives the tokens of one-by-one `generate`; rows record what was shown."""

from types import SimpleNamespace

import pytest
import torch

from medstudy import evaluation, models, training, views
from medstudy.params import Optimisation
from medstudy.resolution import Blind, DownUp, Fixed, Native, Shuffled, Size, plan

NATIVE = Native(max_pixels=10**6)
STUDY = SimpleNamespace(
    interpolation="bicubic", evaluation=SimpleNamespace(images_per_batch=3, max_new_tokens=8)
)


@pytest.fixture(scope="module")
def trained(tiny_model, examples, tmp_path_factory):
    """A model that has learnt different answers for different images and questions, so that greedy paths differ."""
    family = models.load(tiny_model)
    options = Optimisation(epochs=60, images_per_step=2, learning_rate=3e-3, validations=1)
    batches = training.FineTuning(family, examples, NATIVE, "bicubic", 2, 60, 0)
    training.fit(family.model, batches, None, options, 0, tmp_path_factory.mktemp("scratch"))
    return family


def _one_by_one(family, example, view, question):
    """The reference: the processor's own inputs for one question, through transformers' generate."""
    text = family.prompt(question, view.visual_tokens > 0)
    images = [views.render(example.image, view, "bicubic")] if view.visual_tokens else None
    size = {"shortest_edge": 784, "longest_edge": 10**9}
    inputs = family.processor(text=[text], images=images, images_kwargs={"size": size}, return_tensors="pt")
    family.model.model.rope_deltas = None
    with torch.inference_mode():
        out = family.model.generate(**inputs, max_new_tokens=8, do_sample=False)
    family.model.model.rope_deltas = None
    return family.text(out[0, inputs["input_ids"].shape[1] :].tolist())


@pytest.mark.parametrize("policy", [NATIVE, Fixed(side=56), Blind()], ids=lambda p: p.label)
def test_answers_equal_generate(trained, examples, policy):
    shown = [plan(policy, Size(e.image.height, e.image.width), trained.geometry)[0] for e in examples]
    texts = evaluation.answer(trained, [(e, e, v) for e, v in zip(examples, shown, strict=True)], "bicubic", 8)
    expected = [
        [_one_by_one(trained, example, view, question) for question in example.questions]
        for example, view in zip(examples, shown, strict=True)
    ]
    assert texts == expected
    if policy is NATIVE:
        assert len({text for texts in expected for text in texts}) > 2  # it says more than one thing


def test_rows_record_sizes_prompt_and_answer(trained, examples):
    rows = evaluation.predict(trained, examples, Fixed(side=84), STUDY)
    assert len(rows) == 3 * len(examples)
    row = rows[(rows["image_id"] == "train-2") & (rows["question_id"] == "where")].iloc[0]
    assert (row["height"], row["width"]) == (140, 196)
    assert (row["shown_height"], row["shown_width"], row["visual_tokens"]) == (56, 84, 6)
    assert row["scale"] == pytest.approx((56 * 84 / (140 * 196)) ** 0.5)
    assert row["prompt"].count("<|image_pad|>") == 1
    assert row["inference"] == "fixed-84" and row["control"] == "none" and row["budget_pixels"] == 7056
    assert row["answer"] == "upper left" and isinstance(row["raw_text"], str)


def test_controls_show_what_they_say(trained, examples):
    blind = evaluation.predict(trained, examples, Blind(), STUDY)
    assert (blind["visual_tokens"] == 0).all() and not blind["prompt"].str.contains("image_pad").any()
    native = evaluation.predict(trained, examples, NATIVE, STUDY)
    down_up = evaluation.predict(trained, examples, DownUp(side=56, native=NATIVE), STUDY)
    assert (down_up["visual_tokens"] == native["visual_tokens"]).all()
    shuffled = evaluation.predict(trained, examples, Shuffled(native=NATIVE), STUDY)
    assert (shuffled["height"] != native["height"]).any()
    assert set(shuffled["control"]) == {"shuffled"} and set(native["control"]) == {"none"}


def test_swapping_never_keeps_an_image_and_stays_in_the_family(examples):
    swapped = evaluation._swapped(examples)
    assert all(a.image_id != b.image_id and a.family == b.family for a, b in zip(examples, swapped, strict=True))
    assert sorted(one.image_id for one in swapped) == sorted(one.image_id for one in examples)


def test_predictions_do_not_depend_on_the_batch(trained, examples):
    one = SimpleNamespace(interpolation="bicubic", evaluation=SimpleNamespace(images_per_batch=1, max_new_tokens=8))
    together = evaluation.predict(trained, examples, NATIVE, STUDY)
    alone = evaluation.predict(trained, examples, NATIVE, one)
    assert together["raw_text"].tolist() == alone["raw_text"].tolist()
