"""Family `auto` gives the losses, answers and tokens of a model's own processor and forward pass."""

import shutil
from functools import partial
from operator import eq
from types import SimpleNamespace

import pytest
import torch
from transformers import (
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipImageProcessor,
)

from medstudy import models
from medstudy.costs import workload
from medstudy.data.example import Question
from medstudy.engine import batches, flops, image_inputs, shared_prefix
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.views import render
from medstudy.errors import ModelError
from medstudy.evaluation import decode, evaluate, in_process, sampling
from medstudy.models import lora
from medstudy.models.prompts import SYSTEM
from medstudy.params import Decoding, Lora, Model, Optimisation
from medstudy.pretraining import tiny_qwen2_vl
from medstudy.resolution.plan import check_effect, plan
from medstudy.resolution.policies import Blind, Fixed, Native
from medstudy.resolution.sizes import Size
from medstudy.training import loop, train
from medstudy.training.checkpoints import save
from tests.conftest import TEXTS
from tests.support import altered, families

NATIVE = Native(max_pixels=10**6)
# llava-hf/llava-1.5-7b-hf's, for one turn: no ChatML, a space before an answer.
LLAVA_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% elif message['role'] == 'user' %}USER: {% for item in message['content'] %}"
    "{% if item['type'] == 'image' %}<image>\n{% else %}{{ item['text'] }}{% endif %}{% endfor %} "
    "{% else %}ASSISTANT: {{ message['content'][0]['text'] }}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
TOWER = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
         "image_size": 28, "patch_size": 7}


def _llava(folder):
    """A CLIP tower of 28 pixels, 4 x 4 patches, whose penultimate layer is read; a Llama."""
    tokens = families._with(tiny_qwen2_vl.tokenizer(TEXTS * 20, 400), image_token="<image>")
    config = LlavaConfig(
        text_config=families._plain_text(tokens) | {"model_type": "llama"},
        vision_config={"model_type": "clip_vision_model", "projection_dim": 48} | TOWER,
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
    )
    images = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(images, tokens, 7, "default", LLAVA_TEMPLATE, num_additional_image_tokens=1)
    return families._write(LlavaForConditionalGeneration, config, processor, tokens, folder)


def _paligemma(folder):
    """A SigLIP tower of 28 pixels, 16 tokens; a Gemma that attends both ways over the whole prompt; no template."""
    tokens = tiny_qwen2_vl.tokenizer(TEXTS * 20, 400)
    tokens.add_special_tokens({"bos_token": "<bos>"})
    tokens.chat_template = None
    images = SiglipImageProcessor(size={"height": 28, "width": 28})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, tokens)
    text = families._plain_text(tokens) | {"model_type": "gemma", "head_dim": 16}
    text["vocab_size"] = -(-len(tokens) // 64) * 64
    config = PaliGemmaConfig(
        text_config=text,
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, "projection_dim": 64} | TOWER,
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        projection_dim=64,
        hidden_size=64,
        tie_word_embeddings=False,  # tied and random, it would say its last token again
    )
    return families._write(PaliGemmaForConditionalGeneration, config, processor, tokens, folder)


@pytest.fixture(scope="module", params=[_llava, _paligemma])
def folder(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("auto"))


@pytest.fixture
def auto(folder):
    family = models.load(Model(id=str(folder), family="auto"))
    with torch.no_grad():
        for parameter in family.model.parameters():
            parameter.mul_(4 if parameter.ndim >= 2 else 1)
    return family


def _views(family, examples, policy):
    return [(one, plan(policy, batches.size_of(one), family.geometry)[0]) for one in examples]


def _theirs(family, example, view, question, answer=()):
    """The processor's own inputs for a prompt and the image as the policy resized it, then an answer's tokens."""
    from PIL import Image

    text = family.prompt(question, view.visual_tokens > 0)
    if not view.visual_tokens:
        inputs = dict(family.processor.tokenizer([text], return_tensors="pt"))
    else:
        image = Image.fromarray(render(example.image, view, "bicubic").numpy())
        inputs = dict(family.processor(text=[text], images=[image], return_tensors="pt"))
    inputs.pop("labels", None)
    ids = torch.cat([inputs["input_ids"], torch.tensor([list(answer)], dtype=torch.long)], 1)
    if "token_type_ids" in inputs:
        inputs["token_type_ids"] = torch.cat(
            [inputs["token_type_ids"], torch.ones((1, len(answer)), dtype=torch.long)], 1
        )
    return inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("policy", [NATIVE, Fixed(side=14), Blind()], ids=lambda one: one.label)
def test_losses_and_gradients_are_those_of_the_models_own_pass(auto, examples, policy):
    seen, given = _views(auto, examples, policy), ImageInputs(auto, "bicubic")
    losses = []
    for one, view in seen:
        for question in one.questions:
            answer = auto.answer_ids(question.answer)
            logits = auto.model(**_theirs(auto, one, view, question, answer)).logits[0, -len(answer) - 1 : -1]
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(answer)))
    (micro,) = batches.micro_batches(given, seen, 10**6)
    results = []
    for loss in (sum(losses) / len(losses), train.loss_of(given, micro.content) / micro.questions):
        auto.model.zero_grad()
        loss.backward()
        parts = [p.grad.flatten() for p in auto.model.parameters() if p.grad is not None]
        results.append((loss.item(), torch.cat(parts)))
    (expected, gradient), (loss, ours) = results
    assert loss == pytest.approx(expected, abs=2e-6)
    assert (ours - gradient).norm() <= 1e-5 * gradient.norm()
    assert micro.visual_tokens == sum(view.visual_tokens for _, view in seen)


@pytest.mark.parametrize("policy", [NATIVE, Fixed(side=14)], ids=lambda one: one.label)
def test_answers_and_likelihoods_are_those_of_generate(auto, examples, policy):
    seen = _views(auto, examples, policy)
    options = Decoding(max_new_tokens=6, option_likelihoods=True)
    made = in_process.answers(ImageInputs(auto, "bicubic"), examples, examples, [view for _, view in seen], options)
    said = dict(made)
    texts = set()
    for index, (one, view) in enumerate(seen):
        for question, text in zip(one.questions, said[index][0], strict=True):
            inputs = _theirs(auto, one, view, question)
            out = auto.model.generate(**inputs, max_new_tokens=6, do_sample=False)
            assert text == auto.text(out[0, inputs["input_ids"].shape[1] :].tolist())
            texts.add(text)
        ids = auto.answer_ids("B")
        with torch.no_grad():
            logits = auto.model(**_theirs(auto, one, view, one.questions[2], ids)).logits[0, -len(ids) - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum()
        assert said[index][1][2][1] == pytest.approx(float(expected), abs=1e-4)
    assert len(texts) > 4


def test_drawn_answers_follow_no_generation_config(auto, examples):
    """As in the other families, it applies to greedy answers only."""
    (seen,) = _views(auto, examples[:1], NATIVE)
    (micro,) = batches.micro_batches(ImageInputs(auto, "bicubic"), [seen], 10**6)
    packed = shared_prefix.pack(auto, [shared_prefix.row(auto, seen[0].questions, seen[1], answered=False)])
    shown, sampler = auto.look(micro.content.images, packed.grids), sampling.Sampler(0.7, 5, ("a", "b", "c"))
    plain = [decode.decode(auto, packed, shown, 5, sampler)]
    kept = auto.model.generation_config.suppress_tokens
    auto.model.generation_config.suppress_tokens = sorted({token for said in plain[0] for row in said for token in row})
    plain.append(decode.decode(auto, packed, shown, 5, sampler))
    auto.model.generation_config.suppress_tokens = kept
    assert plain[0][1] == plain[1][1] and plain[0][0] != plain[1][0]


def test_visual_tokens_are_those_that_the_processor_writes(auto, examples):
    for size in [(1, 1), (5, 900), (28, 28), (300, 200)]:
        view = NATIVE.view(Size(*size), auto.geometry)
        assert view.size == size and view.visual_tokens == auto.geometry.tokens(Size(*size)) == 16
    for one, view in _views(auto, examples, Fixed(side=14)):
        theirs = _theirs(auto, one, view, one.questions[0])
        row = shared_prefix.row(auto, one.questions, view, answered=False)
        assert row.branches[0] == theirs["input_ids"][0].tolist()
        assert row.branches[0].count(auto.image_token) == view.visual_tokens
        assert row.patches == (16,) * len(one.questions)
        assert theirs["pixel_values"].numel() == 3 * 28 * 28


def test_every_template_writes_the_authors_prompt(auto):
    for image in (True, False):
        text = auto.prompt(Question("q", "Which stain?", "H&E", "open", "stain"), image)
        assert text.index(SYSTEM) < text.index("Which stain?") and text.count("<image>") == image
    assert auto.text([auto.end]) == "" and auto.text(auto.answer_ids("upper left")) == "upper left"


def test_a_policy_that_the_processor_never_sees_is_refused(auto):
    check_effect(Fixed(side=50), [Size(100, 100)], auto.geometry)
    with pytest.raises(Exception, match="whatever its own processor makes"):
        check_effect(Fixed(side=100), [Size(100, 100)], auto.geometry)


@pytest.mark.slow
def test_it_learns_and_its_checkpoint_gives_the_same_answers(folder, examples, tmp_path):
    family = models.load(Model(id=str(folder), family="auto"))
    family.freeze_tower()
    options = Optimisation(epochs=30, images_per_step=2, learning_rate=3e-3, validations=1)
    given = ImageInputs(family, "bicubic")
    seen = batches.FineTuning(given, examples, NATIVE, options, 0)
    tower = [parameter.clone() for parameter in family.tower]
    log = loop.fit(family.model, seen, None, options, 0, tmp_path / "scratch", partial(train.loss_of, given))
    assert log["loss"].iloc[-1] < 0.5 * log["loss"].iloc[0]
    assert tower and all(map(torch.equal, tower, family.tower))
    save(family, tmp_path / "checkpoint", {})
    loaded = models.load(Model(id=str(folder), family="auto"), tmp_path / "checkpoint")
    study = SimpleNamespace(interpolation="bicubic", workers=0, evaluation=Decoding(max_new_tokens=8))
    rows = [evaluate.predict(one, examples, NATIVE, study) for one in (family, loaded)]
    assert rows[0]["raw_text"].tolist() == rows[1]["raw_text"].tolist()
    assert sum(map(eq, rows[0]["raw_text"], rows[0]["answer"])) >= 8
    assert set(batches.ledger(seen)["visual_tokens"]) == {16}


def test_an_estimate_counts_the_flops_that_a_training_logs(folder, examples):
    study = SimpleNamespace(
        training=Optimisation(epochs=1, images_per_step=4, learning_rate=1e-3, cache_features=False),
        interpolation="bicubic", evaluation=Decoding(max_new_tokens=4, option_likelihoods=True),
    )
    family = models.sketch(Model(id=str(folder), family="auto"))
    counter = workload.Counter(study, family)
    real = models.load(Model(id=str(folder), family="auto"))
    assert real.shape == family.shape
    for policy in (NATIVE, Blind()):
        seen = _views(family, examples, policy)
        (micro,) = batches.micro_batches(ImageInputs(real, "bicubic"), _views(real, examples, policy), 10**6)
        assert sum(counter.training_flops(*view) for view in seen) == pytest.approx(micro.flops)
        assert sum(counter.work(*view).tokens for view in seen) == micro.content.packed.ids.shape[1]
    assert flops.TrainedParts.of(real) == flops.ALL
    assert counter.evaluation(examples, [NATIVE]).flops > 0


def test_lora_adapts_the_language_model_alone(folder):
    family = models.load(Model(id=str(folder), family="auto"))
    lora.add(family, Lora(rank=2))
    trained = [name for name, parameter in family.model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * 7 * 3 and all("language_model" in name for name in trained)


def test_kept_features_are_refused(auto, tmp_path):
    options = Optimisation(epochs=1, learning_rate=1e-3, freeze_vision_tower=True)
    study = SimpleNamespace(runs=tmp_path, training=options, interpolation="bicubic")
    with pytest.raises(ModelError, match="auto runs its tower for every question.*cache_features to false"):
        image_inputs.ImageInputs.of(study, auto)


def test_a_processor_that_cannot_read_an_image_is_refused(folder, tmp_path):
    other = altered.images(folder, tmp_path / "other", image_mean=[0.5, 0.5])
    with pytest.raises(ModelError, match="cannot read one"):
        models.load(Model(id=str(other), family="auto"))


def test_logits_that_are_not_the_heads_product_are_refused(tmp_path, monkeypatch):
    folder = _llava(tmp_path)
    forward = LlavaForConditionalGeneration.forward

    def capped(self, *args, **kwargs):
        made = forward(self, *args, **kwargs)
        made.logits = 2 * torch.tanh(made.logits / 2) + 1
        return made

    monkeypatch.setattr(LlavaForConditionalGeneration, "forward", capped)
    with pytest.raises(ModelError, match="without a cap or a scale"):
        models.load(Model(id=str(folder), family="auto"))


def test_a_template_without_the_question_is_refused(tmp_path):
    folder = _llava(tmp_path / "one")
    other = shutil.copytree(folder, tmp_path / "other")
    for template in ("{{ 'hello' }}", LLAVA_TEMPLATE.replace("<image>", "")):
        (other / "chat_template.jinja").write_text(template)
        with pytest.raises(ModelError, match="leaves out"):
            models.load(Model(id=str(other), family="auto")).prompt(Question("q", "Is it?", "yes", "closed", "dot"))
