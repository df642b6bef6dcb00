"""The phantom's counts, points and boxes from the prompt to the tables, with a very small model."""

import numpy as np
import pandas as pd
import pytest

from medstudy import claims, models
from medstudy.data import places
from medstudy.data.example import Question
from medstudy.datasets import phantom
from medstudy.engine.batches import as_asked, plan_views
from medstudy.errors import ModelError
from medstudy.evaluation import evaluate
from medstudy.params import Model, parse
from medstudy.report import tables
from medstudy.report.study_data import StudyData
from medstudy.resolution.policies import Blind, Fixed, Native
from medstudy.scoring import score
from tests.support import chain

PARAMS = phantom.Params(train=4, val=4, test=12, locate=True)
PLACED = ("count", "point", "box")


@pytest.fixture(scope="module")
def done(tiny_model, tmp_path_factory):
    """Training, evaluation and scores of two regimes at two rungs."""
    return chain.run(PARAMS, tiny_model, tmp_path_factory.mktemp("chain"))


def test_every_kind_is_asked_trained_and_scored(done):
    assert set(done.scores["kind"]) == {"closed", "open", "class", "description", *PLACED}
    assert done.training["loss"].gt(0).all() and done.scores["score"].between(0, 1).all()
    placed = done.scores[done.scores["kind"].isin(PLACED)]
    assert placed["chance"].eq(0).all() and placed["coordinates"].eq("thousand_pairs").all()
    assert placed["frame"].map(len).eq(4).all() and done.scores["unread"].isin([0, 1]).all()
    assert set(placed["level"]) == {"fine", "coarse"}
    assert set(placed[placed["level"] == "coarse"]["task"]) == {"mass box"}
    assert placed["thinking_tokens"].eq(0).all()


def test_the_prompt_states_the_form_and_training_answers_have_it(tiny_model):
    family = models.load(tiny_model)
    (example, *_) = (one for one in phantom.load(PARAMS, "test") if any(q.kind == "point" for q in one.questions))
    view = plan_views(Fixed(side=56), example, family.geometry)[0]
    asked = {question.id: question for question in as_asked(family.coordinates, example, view).questions}
    for question in example.questions:
        same = asked[question.id] == question
        assert same == (question.kind not in PLACED)
        if question.kind == "point":
            assert asked[question.id].text.endswith("x from the left and y from the top.")
            numbers = np.array(places.read(asked[question.id].answer, "point"))
            assert len(numbers) and (numbers >= 0).all() and (numbers <= 1000).all()
    predictions = evaluate.predict(family, [example], Fixed(side=56), chain.STUDY)
    rows = predictions.set_index("question_id")
    for name, question in asked.items():
        assert question.text in rows.loc[name, "prompt"]
    assert rows["answer"].to_dict() == {question.id: question.answer for question in example.questions}  # native pixels


@pytest.mark.parametrize("policy", [Native(max_pixels=20_000), Fixed(side=56), Fixed(side=56, mode="pad")])
def test_the_right_places_score_full_at_every_rung(tiny_model, policy):
    """Answers as the training writes them: what is lost by whole numbers does not cost a score."""
    family = models.load(tiny_model)
    examples = list(phantom.load(PARAMS, "test"))
    predictions = evaluate.predict(family, examples, policy, chain.STUDY)
    right = {}
    for example in examples:
        view = plan_views(policy, example, family.geometry)[0]
        for question in as_asked(family.coordinates, example, view).questions:
            right[example.image_id, question.id] = question.answer
    keys = zip(predictions["image_id"], predictions["question_id"], strict=True)
    told = score.score(predictions.assign(raw_text=[right[key] for key in keys], regime="base", seed=0))
    assert told["score"].eq(1).all() and told["unread"].eq(0).all()


def test_a_blind_model_is_asked_and_cannot_be_read(tiny_model):
    family = models.load(tiny_model)
    example = next(one for one in phantom.load(PARAMS, "test") if any(q.kind == "box" for q in one.questions))
    rows = evaluate.predict(family, [example], Blind(), chain.STUDY)
    told = score.score(rows.assign(raw_text="(1,1),(900,900)", regime="base", seed=0))
    assert told[told["kind"] == "box"]["unread"].eq(1).all()


def test_tables_and_claims_take_the_new_kinds(done, tmp_path):
    study = StudyData(done.scores, done.training, done.questions.rename(columns={"question": "text"}),
                      study={"name": "places", "low": "fixed-56", "resamples": 50})
    by_name = {name[3:]: name for name in tables.REGISTRY}
    for name in ("unread", "places_and_reports", "main_results", "tasks"):
        rendered = tables.render(by_name[name], study, tmp_path)
        assert not rendered.missing and set(PLACED) <= set(pd.read_csv(rendered.files[0])["kind"])
    table = pd.read_csv(tmp_path / "tables" / f"{by_name['places_and_reports']}.csv")
    boxes = table[table["kind"] == "box"]
    assert boxes["ap_50_pct"].between(0, 100).all() and table[table["kind"] == "count"]["ap_50_pct"].isna().all()
    made = claims.claims_table(done.scores.assign(study="s"), done.training.assign(flops=1.0), low="fixed-56")
    assert len(made) and made["verdict"].notna().all()


def test_a_family_without_a_convention_is_refused_before_anything_runs(tiny_model):
    content = {"study": "x", "datasets": [{"name": "phantom", "locate": True}], "model": {"family": "gemma3"},
               "regimes": [{"policy": "native", "max_pixels": 10_000}], "seeds": [0], "low": "native",
               "inference": [{"policy": "native", "max_pixels": 10_000}],
               "training": {"epochs": 1, "learning_rate": 0.1}}
    with pytest.raises(Exception, match="set model.coordinates to one of thousand"):
        parse(content)
    stated = parse(content | {"model": {"family": "gemma3", "coordinates": "fraction"}})
    assert stated.model.coordinates == "fraction"
    family = models.load(tiny_model.model_copy(update={"coordinates": "percent"}))
    assert family.coordinates == "percent" and isinstance(tiny_model, Model)


def test_reasoning_is_counted_in_tokens(tiny_model):
    """Also where the prompt itself opens it."""
    class Thinking:
        def __init__(self, family):
            self.family, self.coordinates, self.geometry = family, "", family.geometry

        def tokens(self, text: str) -> int:
            return len(self.family.ids(text))

        def prompt(self, question: Question, image: bool = True, context=()) -> str:
            return f"{question.text}\nassistant\n<think>\n"

        def answers(self, asked):
            from medstudy.evaluation.answerer import Answers

            for index, example in enumerate(asked.examples):
                yield index, Answers(["a b c</think> yes" for _ in example.questions], [[] for _ in example.questions])

    family = models.load(tiny_model)
    examples = list(phantom.load(phantom.Params(test=2), "test"))
    rows = evaluate.ask(Thinking(family), examples, Fixed(side=56), chain.STUDY)
    assert (rows["raw_text"] == "<think>a b c</think> yes").all()
    assert (rows["thinking_tokens"] == len(family.ids("a b c"))).all() and len(family.ids("a b c")) > 0
    told = score.score(rows.assign(regime="base", seed=0))
    closed = told[told["kind"] == "closed"]
    assert (closed["score"] == (closed["answer"] == "yes")).all() and np.isfinite(closed["score"]).all()


def test_places_cannot_be_asked_of_a_model_that_says_nothing_of_coordinates(tiny_model):
    from dataclasses import replace

    family = replace(models.load(tiny_model), coordinates="")
    with pytest.raises(ModelError, match="not known how this model writes"):
        evaluate.predict(family, list(phantom.load(PARAMS, "test")), Fixed(side=56), chain.STUDY)
