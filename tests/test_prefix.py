"""A row with shared prefix has exactly the losses, gradients and answers of separate sequences."""

import pytest
import torch

from medstudy import prefix, training
from medstudy.resolution import Blind, Fixed, Native, Size, plan


def _views(family, examples, policy):
    return [
        (one, plan(policy, Size(one.image.height, one.image.width), family.geometry)[0]) for one in examples
    ]


def _loss_and_gradient(family, batches):
    family.model.zero_grad()
    total = sum(training.loss_of(family.model, micro.inputs) for micro in batches)
    total.backward()
    gradient = torch.cat([p.grad.flatten() for p in family.model.parameters() if p.grad is not None])
    return float(total.detach()), gradient


def _separate(family, seen):
    """One question a sequence, one sequence a batch, plain causal attention and the model's own positions."""
    from dataclasses import replace

    batches = []
    for example, view in seen:
        for question in example.questions:
            (micro,) = training.micros(family, [(replace(example, questions=(question,)), view)], "bicubic")
            inputs = dict(micro.inputs)
            ids = inputs["input_ids"]
            inputs["attention_mask"] = torch.ones_like(ids)
            del inputs["position_ids"]
            if view.visual_tokens:
                inputs["mm_token_type_ids"] = (ids == family.image_token).int()
            batches.append(replace(micro, inputs=inputs))
    return batches


@pytest.mark.parametrize("policy", [Native(max_pixels=10**6), Fixed(side=84), Blind()], ids=lambda p: p.label)
def test_losses_and_gradients_equal_those_of_separate_sequences(family, examples, policy):
    seen = _views(family, examples, policy)
    shared_loss, shared_gradient = _loss_and_gradient(family, training.micros(family, seen, "bicubic"))
    family.model.model.rope_deltas = None
    loss, gradient = _loss_and_gradient(family, _separate(family, seen))
    family.model.model.rope_deltas = None
    assert shared_loss == pytest.approx(loss, abs=2e-5)  # a sum over 12 questions
    assert (shared_gradient - gradient).norm() <= 1e-5 * gradient.norm()


def test_without_the_mask_the_same_comparison_fails(family, examples):
    seen = _views(family, examples, Fixed(side=84))
    (micro,) = training.micros(family, seen[:1], "bicubic")
    length = micro.inputs["input_ids"].shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    leaky = micro.inputs | {"attention_mask": causal}
    with torch.no_grad():
        exact = float(training.loss_of(family.model, micro.inputs))
        wrong = float(training.loss_of(family.model, leaky))
    assert abs(exact - wrong) > 1e-3


def test_allowed_is_causal_and_keeps_branches_apart():
    branch = torch.tensor([-1, -1, 0, 0, 1])
    expected = [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert prefix.allowed(branch).int().tolist() == expected


def test_prefix_holds_the_image_and_branches_hold_the_questions(family, examples):
    (example, view) = _views(family, examples[:1], Native(max_pixels=10**6))[0]
    row = prefix.row(family, example.questions, view, answered=True)
    assert row.prefix.count(family.image_token) == view.visual_tokens == 6
    texts = [family.processor.tokenizer.decode(branch) for branch in row.branches]
    assert texts[0] == "Is there a dot?<|im_end|>\n<|im_start|>assistant\nno<|im_end|>"
    assert texts[2].startswith("Which colour is shown?\nA. red\nB. blue\nAnswer with a single letter")
    for branch, start, question in zip(row.branches, row.answers, example.questions, strict=True):
        assert family.text(branch[start:]) == question.answer


def test_a_question_weighs_the_same_whatever_its_answer_length(family, examples):
    (micro,) = training.micros(family, _views(family, examples[:1], Fixed(side=84)), "bicubic")
    with torch.no_grad():
        whole = float(training.loss_of(family.model, micro.inputs))
        parts = [
            float(training.loss_of(family.model, part.inputs))
            for part in _separate(family, _views(family, examples[:1], Fixed(side=84)))
        ]
    family.model.model.rope_deltas = None
    assert whole == pytest.approx(sum(parts), abs=1e-5)
