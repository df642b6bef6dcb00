"""What answering costs: by formula as in an estimate, seconds shared out, and no answer changed."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from medstudy import models
from medstudy.costs.workload import Counter
from medstudy.engine import flops, shared_prefix
from medstudy.engine.image_inputs import ImageInputs
from medstudy.evaluation import costs, evaluate
from medstudy.evaluation.answerer import Answers
from medstudy.evaluation.in_process import InProcess
from medstudy.params import Decoding, Model
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Blind, Fixed, Native
from medstudy.resolution.sizes import Size

NATIVE = Native(max_pixels=10**6)


def _study(limit=6, budget=300):
    options = Decoding(max_new_tokens=limit, tokens_per_pass=budget)
    return SimpleNamespace(interpolation="bicubic", workers=0, evaluation=options, training=None)


def _asked(family, examples, policy=NATIVE, **options):
    model = InProcess(ImageInputs(family, "bicubic"))
    return evaluate.ask_with_costs(model, examples, policy, _study(**options))


@pytest.mark.parametrize("policy", [NATIVE, Fixed(side=56), Blind()], ids=lambda policy: policy.label)
@pytest.mark.parametrize("name", ["qwen2_vl", "internvl", "auto"])
def test_the_operations_are_those_of_the_estimate(checkpoints, examples, policy, name):
    """With answers of one token the work is the prefill alone."""
    family = models.load(Model(id=str(checkpoints[name if name != "auto" else "qwen2_vl"]), family=name))
    _, spent = _asked(family, examples, policy, limit=1, budget=8000)
    counted = Counter(_study(limit=1, budget=8000), family).evaluation(examples, [policy], length=1)
    assert spent["flops"].sum() == pytest.approx(counted.flops, rel=1e-9)
    assert spent["visual_tokens"].groupby(spent["image_id"]).first().sum() == counted.visual_tokens
    assert (spent["answer_tokens"] == 1).all()


def test_each_token_of_an_answer_adds_its_operations(family, examples):
    """An untrained model hardly ever ends, so that the answers are as long as they may be."""
    (_, short), (_, long) = (_asked(family, examples[:1], limit=limit) for limit in (1, 3))
    (question, *_) = examples[0].questions
    shown = plan(NATIVE, Size(56, 84), family.geometry)[0]
    row = shared_prefix.row(family, examples[0].questions, shown, False)
    place = [one.id for one in sorted(examples[0].questions, key=lambda one: one.id)].index(question.id)
    before = len(row.prefix) + len(row.branches[0])
    assert short["prompt_tokens"][place] == before and long["answer_tokens"][place] == 3
    own = flops.language_flops(family.shape, flops.RowWork((), 2, before + 1 + before + 2, 2))
    assert long["flops"][place] - short["flops"][place] == pytest.approx(own)


def test_the_seconds_of_a_pass_are_shared_out_and_add_up(family, examples):
    watch = costs.Stopwatch(torch.device("cpu"))
    watch.parts = {"prefill": 3.0, "decode": 1.0}
    views = [plan(NATIVE, Size(one.image.height, one.image.width), family.geometry)[0] for one in examples]
    rows = [shared_prefix.row(family, one.questions, view, False) for one, view in zip(examples, views, strict=True)]
    answers = [[7] * (1 + index % 3) for index in range(sum(len(row.branches) for row in rows))]
    spent = pd.DataFrame(costs.of_pass(family, rows, answers, 8, False, watch))
    assert spent["prefill_seconds"].sum() == pytest.approx(3) and spent["decode_seconds"].sum() == pytest.approx(1)
    assert spent["decode_seconds"][2] / spent["decode_seconds"][0] == pytest.approx(4 / 2)  # with the end token
    large, small = (spent["prefill_seconds"][3 * index] for index in (2, 0))  # 140x196 and 56x84 pixels
    assert large > 1.5 * small
    assert spent["seconds"].sum() == pytest.approx(4)


def test_a_family_that_generates_by_itself_has_no_prefill_of_its_own(checkpoints, examples):
    family = models.load(Model(id=str(checkpoints["qwen2_vl"]), family="auto"))
    _, spent = _asked(family, examples[:1], limit=2)
    assert spent["prefill_seconds"].isna().all() and (spent["seconds"] == spent["decode_seconds"]).all()
    assert (spent["seconds"] > 0).all()


def test_memory_and_seconds_are_measured_and_predictions_have_none_of_it(family, examples):
    predictions, spent = _asked(family, examples)
    again, _ = _asked(family, examples)
    pd.testing.assert_frame_equal(predictions, again)
    assert list(spent) == costs.COLUMNS and len(spent) == len(predictions)
    assert (spent["memory_mb"] > 50).all() and (spent[["prefill_seconds", "decode_seconds"]] > 0).all(axis=None)


class _Server:
    """A model elsewhere, which knows its tokens and how long it took."""

    def __init__(self, family):
        self.geometry, self.revision = family.geometry, "?"

    def prompt(self, question, image=True, context=()):
        return question.text

    def answers(self, asked):
        for index, example in enumerate(asked.examples):
            known = [{"answer_tokens": 5, "seconds": 0.5} for _ in example.questions]
            yield index, Answers(["yes"] * len(known), [[]] * len(known), costs=known if index else None)


def test_what_a_model_elsewhere_does_not_say_is_not_guessed(family, examples):
    _, spent = evaluate.ask_with_costs(_Server(family), examples[:2], NATIVE, _study())
    silent, known = spent[spent["image_id"] == "train-0"], spent[spent["image_id"] == "train-1"]
    assert (known["seconds"] == 0.5).all() and (known["answer_tokens"] == 5).all()
    assert known[["flops", "prefill_seconds", "memory_mb"]].isna().all(axis=None) and silent["seconds"].isna().all()
    assert (spent["visual_tokens"] > 0).all()


