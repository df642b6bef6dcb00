"""The formula agrees with torch's own counter."""

from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from medstudy import models
from medstudy.engine import batches, flops, shared_prefix
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.tensor_cache import TensorCache
from medstudy.models import lora
from medstudy.models.qwen_vl import Qwen2VL
from medstudy.params import Lora, Model
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Blind, Native
from medstudy.resolution.sizes import Size
from medstudy.training import train
from tests.support.families import BUILD

COUNTED = partial(sdpa_kernel, SDPBackend.MATH)  # torch 2.11 does not count the CPU's flash kernel


@pytest.mark.parametrize("policy", [Native(max_pixels=10**6), Blind()], ids=lambda p: p.label)
def test_forward_flops_equal_torch_counter(family, examples, policy):
    example = examples[2]
    view = plan(policy, Size(example.image.height, example.image.width), family.geometry)[0]
    work, micro, counted = _counted(family, example, view)
    assert flops.forward_flops(family.shape, _computed(work, micro)) == pytest.approx(counted, rel=0.01)
    assert micro.flops == pytest.approx(3 * flops.forward_flops(family.shape, work))


def _counted(family, example, view):
    """An example's work, its pass, and the operations that torch counts in it."""
    supply = ImageInputs(family, "bicubic")
    (micro,) = batches.micro_batches(supply, [(example, view)], 10**6)
    with FlopCounterMode(display=False) as counter, COUNTED(), torch.no_grad():
        train.loss_of(supply, micro.content)
    row = shared_prefix.row(family, example.questions, view, answered=True)
    return batches.row_work([row], micro.content.packed.layout), micro, counter.get_total_flops()


def _computed(work, micro):
    """The same work with the pairs that sdpa computes on a CPU, which include masked ones."""
    layout = micro.content.packed.layout
    pairs = sum(p**2 + sum(b) * (p + sum(b)) for p, b in zip(layout.prefixes, layout.branches, strict=True))
    return flops.RowWork(work.patches, work.tokens, pairs, work.answers)


@pytest.mark.parametrize("name", BUILD)
def test_forward_flops_of_every_family_equal_torch_counter(checkpoints, examples, name):
    family = models.load(Model(id=str(checkpoints[name]), family=name))
    view = Native(max_pixels=10**6).view(Size(140, 196), family.geometry)
    work, micro, counted = _counted(family, examples[2], view)
    assert flops.forward_flops(family.shape, _computed(work, micro)) == pytest.approx(counted, rel=0.03)


def test_native_at_the_papers_size_costs_a_known_time():
    """Qwen2-VL-2B at 1024², 10 questions: 64.5 ms per training image at 800 TFLOP/s."""
    from transformers import Qwen2VLConfig

    config = Qwen2VLConfig(
        text_config={
            "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
            "num_key_value_heads": 2, "vocab_size": 151936,
        },
        vision_config={"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16, "mlp_ratio": 4},
    )
    prefix_tokens, branch = 1296 + 30, 30
    work = flops.RowWork(
        (72 * 72,), prefix_tokens + 10 * branch, prefix_tokens**2 // 2 + 10 * branch * prefix_tokens, 10 * 5
    )
    assert flops.training_flops(Qwen2VL.cost_shape(config), work) / 800e12 * 1e3 == pytest.approx(64.5, rel=0.1)


@pytest.mark.parametrize("name", ["qwen2_vl", "llava_onevision", "internvl"])
@pytest.mark.parametrize("kind", ["full", "frozen", "stored", "lora"])
def test_training_costs_what_torch_counts(checkpoints, pictured, tmp_path, kind, name):
    family, example = models.load(Model(id=str(checkpoints[name]), family=name)), pictured[2]
    if kind in ("frozen", "stored"):
        family.freeze_tower()
    if kind == "lora":
        lora.add(family, Lora(rank=1))
    view = plan(Native(max_pixels=10**6), Size(example.image.height, example.image.width), family.geometry)[0]
    supply = ImageInputs(family, "bicubic", features=TensorCache(tmp_path) if kind == "stored" else None)
    (micro,) = batches.micro_batches(supply, [(example, view)], 10**6)
    with FlopCounterMode(display=False) as counter, COUNTED():
        train.loss_of(supply, micro.content).backward()
    work = batches.row_work([shared_prefix.row(family, example.questions, view, answered=True)],
    micro.content.packed.layout)
    trained = flops.TrainedParts.of(family)
    expected = flops.training_flops(family.shape, _computed(work, micro), trained, tower=kind != "stored")
    assert expected == pytest.approx(counter.get_total_flops(), rel=0.1)
    assert micro.flops == pytest.approx(flops.training_flops(family.shape, work, trained, tower=kind != "stored"))
    if kind != "full":
        assert micro.flops < 0.95 * flops.training_flops(family.shape, work)
