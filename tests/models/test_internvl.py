"""InternVL with the language models of its checkpoints: Qwen2, Qwen3, and Llama's layout, which InternLM shares."""

import pytest
import torch
from transformers import AutoModelForImageTextToText

from medstudy import models
from medstudy.engine import batches
from medstudy.engine.image_inputs import ImageInputs
from medstudy.evaluation import in_process
from medstudy.evaluation import passes as evaluation_passes
from medstudy.params import Decoding, Model
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Fixed, Native
from tests.conftest import TEXTS
from tests.engine.test_shared_prefix import NATIVE, packed, separate, views
from tests.evaluation.test_evaluate import _one_by_one
from tests.support import families

LANGUAGE = {
    "qwen2": {},
    "qwen3": {"model_type": "qwen3", "head_dim": 24},
    "llama": {"model_type": "llama", "attention_bias": True, "mlp_bias": False},
}


@pytest.fixture(scope="module", params=LANGUAGE)
def intern(request, tmp_path_factory):
    folder = families.internvl(TEXTS * 20, tmp_path_factory.mktemp("intern"), **LANGUAGE[request.param])
    family = models.load(Model(id=str(folder), family="internvl"))
    assert family.model.config.text_config.model_type == request.param
    with torch.no_grad():
        for parameter in family.model.parameters():
            parameter.mul_(4 if parameter.ndim >= 2 else 1)
    return family


@pytest.mark.parametrize("policy", [NATIVE, Fixed(side=14)], ids=lambda one: one.label)
def test_losses_and_gradients_equal_those_of_separate_sequences(intern, examples, policy):
    seen = views(intern, examples, policy)
    shared, shared_gradient = packed(intern, seen)
    loss, gradient = separate(intern, seen)
    assert abs(shared - loss) <= 2e-6
    assert (shared_gradient - gradient).norm() <= 1e-5 * gradient.norm()


def test_answers_equal_generate_with_several_images_in_a_row(intern, examples):
    shown = [view for _, view in views(intern, examples, NATIVE)]
    given = ImageInputs(intern, "bicubic")
    passes = evaluation_passes.Passes(given, examples, examples, shown, Decoding())
    assert [len(group) for group in passes.groups] == [len(examples)]
    made = dict(in_process.answers(given, examples, examples, shown, Decoding(max_new_tokens=8)))
    said = [made[index][0] for index in range(len(examples))]
    expected = [[_one_by_one(intern, one, view, question) for question in one.questions]
                for one, view in zip(examples, shown, strict=True)]
    assert said == expected and len({text for texts in expected for text in texts}) > 2


def test_images_of_a_row_give_the_tokens_of_each_image_alone(intern, examples):
    given = ImageInputs(intern, "bicubic")
    seen = views(intern, examples, Native(max_pixels=100**2))
    (micro,) = batches.micro_batches(given, seen, 10**6)
    with torch.no_grad():
        together = given.visual_tokens(micro.content.images, micro.content.packed.grids).tokens
        alone = [given.visual_tokens([image], grid[None]).tokens
                 for image, grid in zip(micro.content.images, micro.content.packed.grids, strict=True)]
    assert sorted(map(len, alone)) == sorted(view.visual_tokens for _, view in seen)
    torch.testing.assert_close(together, torch.cat(alone), atol=2e-6, rtol=1e-5)


def test_bfloat16_weights_are_read_as_such_and_answer(intern, examples, tmp_path):
    """Features and losses differ from float32 by as much as 16 bits allow, as in transformers' own pass."""
    intern.model.save_pretrained(tmp_path)
    intern.processor.save_pretrained(tmp_path)
    half = models.load(Model(id=str(tmp_path), family="internvl", dtype="bfloat16"))
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}
    seen = views(intern, examples, NATIVE)
    (micro,) = batches.micro_batches(ImageInputs(intern, "bicubic"), seen, 10**6)
    with torch.no_grad():
        exact = intern.look(micro.content.images, micro.content.packed.grids).tokens
        rough = half.look(micro.content.images, micro.content.packed.grids).tokens
        theirs = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
        own = theirs.model.get_image_features(torch.cat([half.patches(one) for one in micro.content.images]).bfloat16())
    assert rough.dtype == torch.bfloat16
    off = [float((part.float() - exact).norm() / exact.norm()) for part in (rough, own.pooler_output.flatten(0, 1))]
    assert off[0] < 0.03 and off[0] <= 1.5 * off[1]
    loss, _ = packed(half, seen)
    expected, _ = separate(half, seen)
    assert loss == pytest.approx(expected, rel=0.02)
    shown = [plan(NATIVE, batches.size_of(one), half.geometry)[0] for one in examples]
    inputs = ImageInputs(half, "bicubic")
    answers = list(in_process.answers(inputs, examples, examples, shown, Decoding(max_new_tokens=3)))
    assert len(answers) == len(examples)
