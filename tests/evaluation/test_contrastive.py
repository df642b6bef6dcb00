"""A contrastive encoder answers questions with options by the nearest text, and leaves out the others by number."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from medstudy import datasets, params
from medstudy.data.example import Question, Shot
from medstudy.engine import views
from medstudy.engine.batches import size_of
from medstudy.engine.tensor_cache import TensorCache
from medstudy.errors import ModelError
from medstudy.evaluation import compared, embeddings, evaluate, examine, left_out
from medstudy.evaluation.contrastive import Contrastive
from medstudy.models import contrastive
from medstudy.params import Clip, Decoding, Model
from medstudy.resolution.policies import Blind, DownUp, Fixed, Native, Shuffled
from medstudy.scoring import score
from tests.support.contrastive import BUILD, PATCH

NATIVE = Native(max_pixels=10**5)
LADDER = (Fixed(side=PATCH), Fixed(side=32), NATIVE)
STUDY = SimpleNamespace(
    interpolation="bicubic", workers=0, evaluation=Decoding(option_likelihoods=True, tokens_per_pass=200)
)
YES_NO = {"*": {"if_yes": ("a photo of a dot", "there is a dot"), "if_no": ("a photo of nothing",)}}
CLOSED = Question("dot", "Is there a dot?", "yes", "closed", "dot")
CHOICE = Question("colour", "Which colour is shown?", "B", "choice", "colour", options=("red", "blue", "green"))
WORDS = Question("size", "How large: big or small?", "big", "class", "size", options=("big", "small"))
BARE = Question("shape", "Which shape?", "a ring", "class", "shape")
OPEN = Question("where", "Where is it?", "left", "open", "dot")


@pytest.fixture(scope="module", params=BUILD)
def encoder(request, tmp_path_factory):
    folder = BUILD[request.param](tmp_path_factory.mktemp(request.param))
    return contrastive.load(Model(id=str(folder), family="clip"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = BUILD["clip"](tmp_path_factory.mktemp("clip"))
    return contrastive.load(Model(id=str(folder), family="clip"))


@pytest.fixture(scope="module")
def asked(examples):
    """The examples, each with a question of every kind."""
    shapes = ["a ring", "a disc", "a ring", "a line"]
    return [replace(example, questions=(CLOSED, CHOICE, WORDS, replace(BARE, answer=shape), OPEN))
            for example, shape in zip(examples, shapes, strict=True)]


def by_question(rows, question):
    return rows[rows["question_id"] == question].reset_index(drop=True)


# Texts


def test_the_texts_of_each_kind_of_question():
    settings = Clip(templates=("a photo of {}", "{question} {}"), by_task={"size": ("it is {}",)}, yes_no=YES_NO)
    choice = compared.of(CHOICE, settings)
    assert choice.answers == ("A", "B", "C") and choice.options
    assert choice.texts[1] == ("a photo of blue", "Which colour is shown? blue")
    assert choice.prompt.splitlines()[2] == "B: a photo of blue"
    assert compared.of(WORDS, settings).texts == (("it is big",), ("it is small",))
    assert compared.of(CLOSED, settings) == compared.Compared(
        ("yes", "no"), (YES_NO["*"]["if_yes"], YES_NO["*"]["if_no"]), False)
    assert compared.of(BARE, settings, ("a disc", "a ring")).texts[0] == ("a photo of a disc", "Which shape? a disc")


def test_braces_in_a_question_or_an_option_are_text():
    odd = replace(CHOICE, text="What is {}?", options=("{question}", "{}"))
    assert compared.of(odd, Clip(templates=("{question} {}",))).texts == (("What is {}? {question}",),
                                                                          ("What is {}? {}",))


@pytest.mark.parametrize("question", [OPEN, CLOSED, replace(OPEN, kind="description"), BARE], ids=lambda q: q.kind)
def test_what_no_texts_answer_is_left_out(question):
    assert compared.of(question, Clip()) is None
    assert compared.of(question, Clip(), ("a ring",)) is None  # one class alone is no choice


def test_statements_are_those_of_the_task_or_of_all_others():
    pairs = YES_NO | {"dot": {"if_yes": ("{question} yes",), "if_no": ("{question} no",)}}
    assert compared.of(CLOSED, Clip(yes_no=pairs)).texts == (("Is there a dot? yes",), ("Is there a dot? no",))
    assert compared.of(replace(CLOSED, task="line"), Clip(yes_no=pairs)).texts[1] == ("a photo of nothing",)
    assert compared.of(replace(CLOSED, task="line"), Clip(yes_no={"dot": pairs["dot"]})) is None


# Answers


@pytest.mark.parametrize("policy", LADDER, ids=lambda policy: policy.label)
def test_answers_are_those_of_logits_per_image_for_the_image_as_it_is_shown(encoder, asked, policy):
    model = Contrastive(encoder, Clip())
    rows = by_question(evaluate.ask(model, asked, policy, STUDY), "colour")
    place = encoder.model.config._name_or_path
    own, tokens = AutoModel.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    texts = [f"a photo of {option}" for option in CHOICE.options]
    padding = {"padding": True} if hasattr(own, "text_projection") else {"padding": "max_length", "max_length": 64}
    for row in rows.itertuples():
        example = next(one for one in asked if one.image_id == row.image_id)
        view = policy.view(size_of(example), encoder.geometry)
        assert (row.shown_height, row.shown_width, row.visual_tokens) == (*view.size, view.size.pixels // PATCH**2)
        shown = views.render(example.image, view, "bicubic")
        values = contrastive.shades.applied(shown, encoder.shades)[None]
        with torch.no_grad():
            inputs = contrastive.tower_inputs(own.config.vision_config, values)
            logits = own(**tokens(texts, return_tensors="pt", **padding), **inputs).logits_per_image[0]
        assert list(row.option_log_likelihoods) == pytest.approx(logits.log_softmax(0).tolist(), abs=1e-4)
        assert row.raw_text == "ABC"[int(logits.argmax())]


def test_every_kind_is_answered_in_its_own_form(clip, asked):
    rows = evaluate.ask(Contrastive(clip, Clip(yes_no=YES_NO)), asked, NATIVE, STUDY)
    said = {question: set(by_question(rows, question)["raw_text"]) for question in ("dot", "colour", "size", "shape")}
    assert said["dot"] <= {"yes", "no"} and said["colour"] <= set("ABC") and said["size"] <= {"big", "small"}
    assert said["shape"] <= {"a ring", "a disc", "a line"}
    assert len(rows) == 4 * len(asked) and set(rows["kind"]) == {"closed", "choice", "class"}
    lengths = rows.groupby("question_id")["option_log_likelihoods"].first().map(len)
    assert lengths.to_dict() == {"dot": 0, "colour": 3, "size": 2, "shape": 0}
    assert by_question(rows, "shape")["prompt"].iloc[0].splitlines()[0] == "a disc: a photo of a disc"
    scored = score.score(rows)
    assert scored["score"].isin([0, 1]).all() and (scored["answer_read"].dropna() != "none").all()
    choices = scored[scored["kind"] == "choice"]
    assert (choices["likelihood"] == choices["score"]).all()


def test_an_option_has_the_mean_of_its_texts_as_in_clips_paper(clip, asked):
    templates = ("a photo of {}", "a drawing of {}", "it is {}")
    row = by_question(evaluate.ask(Contrastive(clip, Clip(templates=templates)), asked[:1], NATIVE, STUDY), "size")
    texts = [clip.texts([template.replace("{}", option) for template in templates]) for option in WORDS.options]
    means = torch.stack([part.mean(0) / part.mean(0).norm() for part in texts])
    image = clip.images([views.render(asked[0].image, NATIVE.view(size_of(asked[0]), clip.geometry), "bicubic")])
    expected = (clip.model.logit_scale.exp().item() * (image @ means.T)[0]).log_softmax(0)
    assert list(row["option_log_likelihoods"][0]) == pytest.approx(expected.tolist(), abs=1e-5)


def test_without_option_likelihoods_none_are_recorded_and_answers_are_the_same(clip, asked):
    plain = SimpleNamespace(**vars(STUDY) | {"evaluation": Decoding()})
    model = Contrastive(clip)
    bare, scored = (evaluate.ask(model, asked, NATIVE, study) for study in (plain, STUDY))
    assert bare["option_log_likelihoods"].map(len).eq(0).all()
    assert bare["raw_text"].equals(scored["raw_text"])


def test_batches_workers_and_order_change_nothing(clip, asked, pictured, tmp_path):
    small = SimpleNamespace(**vars(STUDY) | {"evaluation": Decoding(option_likelihoods=True, tokens_per_pass=1)})
    ahead = SimpleNamespace(**vars(STUDY) | {"workers": 1})
    square = Fixed(side=32, mode="square")  # so that all images are one batch
    whole = evaluate.ask(Contrastive(clip), asked, square, STUDY)
    cached = [replace(one, image=encoded.image) for one, encoded in zip(asked, pictured, strict=True)]
    for study, examples, store in ((small, asked, None), (ahead, cached, TensorCache(tmp_path)),
                                   (STUDY, asked[::-1], None)):
        other = evaluate.ask(Contrastive(clip, pixels=store), examples, square, study)
        columns = ["image_id", "question_id", "raw_text"]
        pd.testing.assert_frame_equal(other[columns], whole[columns])
        for ours, theirs in zip(whole["option_log_likelihoods"], other["option_log_likelihoods"], strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)
    assert list(tmp_path.rglob("*.safetensors"))


def test_controls(encoder, asked):
    model = Contrastive(encoder, Clip(yes_no=YES_NO))
    native = evaluate.ask(model, asked, NATIVE, STUDY)
    blind = evaluate.ask(model, asked, Blind(), STUDY)
    assert (blind["visual_tokens"] == 0).all() and len(blind) == len(native)
    chosen = blind.groupby("question_id")["raw_text"].nunique()
    assert (chosen == 1).all()  # without an image all images have the same answer
    shuffled = evaluate.ask(model, asked, Shuffled(native=NATIVE), STUDY)
    scores = {row.image_id: row.option_log_likelihoods for row in by_question(native, "colour").itertuples()}
    following = dict(zip([one.image_id for one in asked], [one.image_id for one in [*asked[1:], asked[0]]],
                         strict=True))
    for row in by_question(shuffled, "colour").itertuples():
        assert list(row.option_log_likelihoods) == pytest.approx(scores[following[row.image_id]], abs=1e-5)
    low = evaluate.ask(model, asked, DownUp(side=16, native=NATIVE), STUDY)
    assert (low["visual_tokens"] == native["visual_tokens"]).all()
    changed = [ours != theirs for ours, theirs in zip(
        map(list, low["option_log_likelihoods"]), map(list, native["option_log_likelihoods"]), strict=True)]
    assert any(changed)


def test_an_image_costs_its_operations_once_in_equal_parts(clip, asked):
    _, spent = evaluate.ask_with_costs(Contrastive(clip, Clip(yes_no=YES_NO)), asked, NATIVE, STUDY)
    assert len(spent) == 4 * len(asked)  # without the open questions
    for example in asked:
        own = spent[spent["image_id"] == example.image_id]
        size = NATIVE.view(size_of(example), clip.geometry).size
        assert own["flops"].sum() == pytest.approx(clip.flops(size)) and own["flops"].nunique() == 1
        assert (own["visual_tokens"] == clip.geometry.tokens(size)).all() and own["answer_tokens"].isna().all()
        assert (own["seconds"] > 0).all() and own["seconds"].equals(own["prefill_seconds"])
    _, blind = evaluate.ask_with_costs(Contrastive(clip), asked, Blind(), STUDY)
    assert blind["flops"].isna().all()


# What it cannot answer


def test_what_is_left_out_is_counted(clip, asked, tmp_path, capsys):
    rows = evaluate.ask(Contrastive(clip), asked, NATIVE, STUDY)
    counts = left_out.count(asked, rows)
    assert counts.to_dict("records") == [
        {"dataset": "made", "kind": "closed", "questions": 4, "left_out": 4},
        {"dataset": "made", "kind": "open", "questions": 4, "left_out": 4},
    ]
    left_out.write(asked, rows, tmp_path)
    assert pd.read_csv(tmp_path / "left_out.csv")["left_out"].sum() == 8
    assert "cannot answer 8 of the questions" in capsys.readouterr().out
    some = [replace(one, questions=(CHOICE,)) for one in asked]
    left_out.write(some, evaluate.ask(Contrastive(clip), some, NATIVE, STUDY), tmp_path / "none")
    assert not (tmp_path / "none").exists() and capsys.readouterr().out == ""


def test_an_example_of_several_images_is_left_out(clip, asked):
    several = [replace(asked[0], context=(Shot(asked[1].image),)), *asked[1:]]
    rows = evaluate.ask(Contrastive(clip), several, NATIVE, STUDY)
    assert set(rows["image_id"]) == {one.image_id for one in asked[1:]}


def test_nothing_to_answer_is_an_error(clip, asked):
    alone = [replace(one, questions=(OPEN, CLOSED)) for one in asked]
    with pytest.raises(ModelError, match="none of these: {'closed': 4, 'open': 4}.*texts for yes and no"):
        evaluate.ask(Contrastive(clip), alone, NATIVE, STUDY)


def test_an_option_that_the_model_would_cut_off_is_an_error(clip, asked):
    long = replace(CHOICE, options=("red", "x" * 70, "y" * 80))
    with pytest.raises(ModelError, match="at most 77 tokens in this model, but 2 of .* have more, up to 90"):
        evaluate.ask(Contrastive(clip), [replace(asked[0], questions=(long,))], NATIVE, STUDY)


def test_a_training_of_this_family_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="not trained here"):
        Contrastive.open(STUDY, tmp_path)


def test_another_filter_than_the_processors_is_a_notice(tmp_path):
    study = SimpleNamespace(model=Model(id=str(BUILD["siglip2"](tmp_path)), family="clip"), interpolation="bicubic",
                            runs=tmp_path)
    with pytest.warns(UserWarning, match="resizes images by bilinear, the study by bicubic"):
        Contrastive.open(study)


@pytest.mark.parametrize(("name", "rungs"), [("siglip", ["square-32"]), ("siglip2", None)])
def test_the_check_of_the_model_states_the_size_of_its_training_images(name, rungs, tmp_path):
    model = {"id": str(BUILD[name](tmp_path / "model")), "family": "clip"}
    ladder = [{"policy": "fixed", "side": 32, "mode": "square"}, {"policy": "native", "max_pixels": 4096}]
    data = [{"name": "phantom", "train": 4, "val": 4, "test": 4}]
    study = params.parse({"study": "one", "datasets": data, "model": model, "regimes": [], "inference": ladder})
    tokens = examine.examine(study, tmp_path)
    assert tokens.query("inference == 'square-32'")["visual_tokens"].eq(16).all()
    about = json.loads((tmp_path / "model.json").read_text())
    assert about["prompt"] == "A: a photo of Giemsa\nB: a photo of Pap"
    known = about.get("trained_on")
    assert known == (rungs and {"words": "32² pixels", "source": "its configuration", "rungs": rungs})


# Retrieval


def captioned(examples, texts):
    return [replace(one, questions=(CHOICE, Question("caption", "Describe it.", text, "description", "caption")))
            for one, text in zip(examples, texts, strict=True)]


def test_embeddings_and_ranks_are_left_in_the_folder(encoder, examples, tmp_path):
    texts = ["a red dot", "nothing", "a red dot", "a line, " + "long " * 30]
    model, made = Contrastive(encoder), captioned(examples, texts)
    policies = (*LADDER, Blind())
    model.keep(tmp_path, (evaluate.asked(model, made, policy, STUDY) for policy in policies))
    table = pd.read_parquet(tmp_path / embeddings.FILE)
    captions = table[table["inference"] == ""]
    assert len(table) == 4 + 4 * len(policies) and captions["cut"].tolist() == [False, False, False, True]
    assert np.allclose(table["vector"].map(np.linalg.norm), 1, atol=1e-5)
    ranks = pd.read_parquet(tmp_path / embeddings.RETRIEVAL)
    assert ranks.groupby("inference").size().to_dict() == {policy.label: 8 for policy in policies}
    native = ranks[ranks["inference"] == "native"]
    vectors = {row.image_id: row.vector for row in table[table["inference"] == "native"].itertuples()}
    for row in native[native["direction"] == "image to text"].itertuples():
        cosines = encoder.texts(sorted(set(texts))).numpy() @ vectors[row.image_id]
        mine = dict(zip(sorted(set(texts)), cosines, strict=True))[made[int(row.image_id[-1])].questions[1].answer]
        assert row.rank == 1 + (cosines > mine + 1e-6).sum() and row.candidates == 3
    blind = ranks[(ranks["inference"] == "blind") & (ranks["direction"] == "text to image")]
    assert set(blind["rank"]) == {2.5} and set(blind["candidates"]) == {4}


def test_ranks_by_hand():
    def row(image, question, vector, same=-1):
        return {"dataset": "made", "image_id": image, "group": image, "question_id": question, "control": "none",
                "inference": "" if question else "native", "same": same, "vector": np.array(vector, np.float32)}

    table = pd.DataFrame([
        row("a", "", [1, 0]), row("b", "", [0, 1]), row("c", "", [0.6, 0.8]), row("bare", "", [0.8, 0.6]),
        row("a", "caption", [0, 1], 0), row("b", "caption", [0, 1], 0), row("c", "caption", [1, 0], 1),
        row("c", "other", [0.8, 0.6], 2),
    ])
    ranks = embeddings.ranks(table)
    forth, back = (ranks[ranks["direction"] == direction] for direction in embeddings.DIRECTIONS)
    assert dict(zip(forth["image_id"], forth["rank"], strict=True)) == {"a": 3, "b": 1, "c": 1}
    found = {(one.image_id, one.question_id): one.rank for one in back.itertuples()}
    # the image without a caption is no candidate; a and b share the caption that b is nearest to
    assert found == {("a", "caption"): 1, ("b", "caption"): 1, ("c", "caption"): 2, ("c", "other"): 1}
    assert set(back["candidates"]) == {3}


# A whole evaluation


def test_the_phantoms_choices_in_words_are_answered_and_scored_over_the_ladder(clip):
    study = datasets.REGISTRY["phantom"].Params(name="phantom", train=4, val=4, test=8, seed=1)
    made = list(datasets.load(study, "test"))
    model = Contrastive(clip, Clip(templates=("a photo of {}", "{}")))
    rows = pd.concat([evaluate.ask(model, made, policy, STUDY) for policy in LADDER], ignore_index=True)
    with_options = sum(bool(question.options) for one in made for question in one.questions)
    assert len(rows) == len(LADDER) * with_options > 0 and (rows["kind"] == "class").all()
    scores = score.score(rows)
    assert scores["score"].isin([0, 1]).all() and (scores["answer_read"] == "one").all()
    assert (scores["likelihood"] == scores["score"]).all()
    assert rows.groupby("inference")["visual_tokens"].mean().is_unique
