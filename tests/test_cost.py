"""The formula agrees with torch's own counter."""

from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from medstudy import cost, models, prefix, training
from medstudy.resolution import Blind, Native, Size, plan

COUNTED = partial(sdpa_kernel, SDPBackend.MATH)  # torch 2.11 does not count the CPU's flash kernel


@pytest.mark.parametrize("policy", [Native(max_pixels=10**6), Blind()], ids=lambda p: p.label)
def test_forward_flops_equal_torch_counter(family, examples, policy):
    example = examples[2]
    view = plan(policy, Size(example.image.height, example.image.width), family.geometry)[0]
    (micro,) = training.micros(family, [(example, view)], "bicubic")
    with FlopCounterMode(display=False) as counter, COUNTED(), torch.no_grad():
        training.loss_of(family.model, micro.inputs)
    work = training.workload(prefix.row(family, example.questions, view, answered=True))
    dense = cost.Workload(work.patches, work.tokens, work.tokens**2, work.answers)  # sdpa computes masked pairs too
    assert cost.forward_flops(family.model.config, dense) == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert micro.flops == pytest.approx(3 * cost.forward_flops(family.model.config, work))


def test_native_at_the_papers_size_costs_as_known():
    """Qwen2-VL-2B at 1024², 10 questions: 64.5 ms a training image at 800 TFLOP/s."""
    from transformers import Qwen2VLConfig

    config = Qwen2VLConfig(
        text_config={
            "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
            "num_key_value_heads": 2, "vocab_size": 151936,
        },
        vision_config={"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16, "mlp_ratio": 4},
    )  # fmt: skip
    prefix_tokens, branch = 1296 + 30, 30
    work = cost.Workload(
        (72 * 72,), prefix_tokens + 10 * branch, prefix_tokens**2 // 2 + 10 * branch * prefix_tokens, 10 * 5
    )
    assert cost.training_flops(config, work) / 800e12 * 1e3 == pytest.approx(64.5, rel=0.1)


def test_a_frozen_tower_costs_what_torch_counts(tiny_model, examples):
    family, example = models.load(tiny_model), examples[2]
    family.freeze_tower()
    view = plan(Native(max_pixels=10**6), Size(example.image.height, example.image.width), family.geometry)[0]
    (micro,) = training.micros(family, [(example, view)], "bicubic")
    with FlopCounterMode(display=False) as counter, COUNTED():
        training.loss_of(family.model, micro.inputs).backward()
    work = training.workload(prefix.row(family, example.questions, view, answered=True))
    dense = cost.Workload(work.patches, work.tokens, work.tokens**2, work.answers)
    frozen = cost.training_flops(family.model.config, dense, frozen_tower=True)
    assert frozen == pytest.approx(counter.get_total_flops(), rel=0.1)
    assert frozen < 0.95 * cost.training_flops(family.model.config, dense)
    assert micro.flops == pytest.approx(cost.training_flops(family.model.config, work, frozen_tower=True))
