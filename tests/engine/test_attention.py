"""Every kernel computes what the layout's mask defines; the cascade's merge and its backward pass are exact."""

import logging
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import scaled_dot_product_attention

from medstudy.cli import doctor
from medstudy.engine import attention
from medstudy.engine.attention import Heads, KernelChoice
from medstudy.engine.row_layout import RowLayout, Segments

HEADS = Heads(queries=6, keys=2, width=24)
PLANS = [
    RowLayout((7, 3), ((2, 5, 1), (4,))),
    RowLayout((6,), ((3, 3),)),
    RowLayout((4, 5, 2), ((1,), (2, 2), (6,))),
    RowLayout((5, 3), ((), (2,))),
    RowLayout((9, 2), ((), ())),
]


def made(plan, dtype=torch.float64, heads=4, keys=2, width=8):
    maker = torch.Generator().manual_seed(len(plan))
    shapes = [(1, count, len(plan), width) for count in (heads, keys, keys, heads)]
    *parts, grad = (torch.randn(shape, generator=maker, dtype=dtype) for shape in shapes)
    return [part.requires_grad_() for part in parts], grad


def by_mask(query, key, value, plan, scale):
    """The definition: one dense attention under the layout's mask."""
    return scaled_dot_product_attention(query, key, value, attn_mask=plan.mask, scale=scale, enable_gqa=True)


class Reference:
    """A kernel of plain matrix products with the interface of the flash kernels, for the cascade to call."""

    @staticmethod
    def _runs(segments):
        for (a, b), (c, d) in zip(*(pairwise([0, *torch.tensor(n).cumsum(0).tolist()])
                                    for n in (segments.queries, segments.keys)), strict=True):
            yield slice(a, b), slice(c, d)

    @staticmethod
    def _scores(query, key, causal, scale):
        scores = torch.einsum("qhd,khd->hqk", query, key) * scale
        if causal:
            scores = scores.masked_fill(torch.ones(scores.shape[1:], dtype=torch.bool).triu(1), float("-inf"))
        return scores

    @classmethod
    def forward(cls, query, key, value, segments, causal, scale):
        groups = query.shape[1] // key.shape[1]
        output, lse = torch.zeros_like(query), query.new_zeros(query.shape[1], len(query))
        for q, k in cls._runs(segments):
            scores = cls._scores(query[q], key[k].repeat_interleave(groups, 1), causal, scale)
            lse[:, q] = scores.logsumexp(-1)
            weights = (scores - lse[:, q, None]).exp()
            output[q] = torch.einsum("hqk,khd->qhd", weights, value[k].repeat_interleave(groups, 1))
        return output, lse, "state"

    @classmethod
    def backward(cls, grad, query, key, value, output, lse, state, segments, causal, scale):
        assert state == "state"
        groups = query.shape[1] // key.shape[1]
        grads = [torch.zeros_like(part) for part in (query, key, value)]
        for q, k in cls._runs(segments):
            wide = [part[k].repeat_interleave(groups, 1) for part in (key, value)]
            weights = (cls._scores(query[q], wide[0], causal, scale) - lse[:, q, None]).exp()
            inner = torch.einsum("qhd,khd->hqk", grad[q], wide[1])
            inner = weights * (inner - (grad[q] * output[q]).sum(-1).T[..., None]) * scale
            grads[0][q] += torch.einsum("hqk,khd->qhd", inner, wide[0])
            for place, part in (1, torch.einsum("hqk,qhd->khd", inner, query[q])), (
                2, torch.einsum("hqk,qhd->khd", weights, grad[q])
            ):
                grads[place][k] += part.unflatten(1, (key.shape[1], groups)).sum(2)
        return tuple(grads)


def by_cascade(query, key, value, plan, scale):
    return attention.cascade(query, key, value, plan, scale, Reference)


@pytest.mark.parametrize("function", [attention.sdpa, by_cascade], ids=["sdpa", "cascade"])
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_kernel_computes_what_the_mask_defines(plan, function):
    results = []
    for attend in (by_mask, function):
        parts, grad = made(plan)
        output = attend(*parts, plan, 0.3)
        output.backward(grad)
        results.append([output, *(part.grad for part in parts)])
    for exact, found in zip(*results, strict=True):
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


def test_gradients_of_the_cascade_agree_with_finite_differences():
    plan = PLANS[0]
    parts, _ = made(plan, heads=2, keys=1, width=3)
    assert torch.autograd.gradcheck(lambda *p: by_cascade(*p, plan, 0.5), parts)


def test_the_mask_is_causal_and_keeps_branches_and_images_apart():
    plan = RowLayout((2, 1), ((1, 2), (1,)))
    expected = [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 0],
        [1, 1, 0, 1, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0],
        [1, 1, 0, 0, 1, 1, 0],
        [0, 0, 1, 0, 0, 0, 1],
    ]
    assert plan.mask.int().tolist() == expected
    assert plan.pairs == sum(map(sum, expected))


def test_without_a_gpu_sdpa_is_chosen_and_the_reason_is_logged(caplog):
    with caplog.at_level(logging.INFO):
        choice = attention.choose(torch.device("cpu"), torch.bfloat16)
    assert choice.name == "prefix_sdpa" and "cpu" in choice.why
    assert choice.why in caplog.text


class Broken(Reference):
    """Right forward, wrong backward, as an incompatible version may be."""

    @classmethod
    def backward(cls, *args):
        return tuple(2 * grad for grad in Reference.backward(*args))


class Absent(Reference):
    @classmethod
    def forward(cls, *args):
        raise RuntimeError("no kernel image is available")


@pytest.mark.parametrize(
    ("kernel", "why"), [(Reference, None), (Broken, "differs from sdpa by"), (Absent, "no kernel image")]
)
def test_a_kernel_is_checked_before_it_is_used(monkeypatch, kernel, why):
    from functools import partial

    monkeypatch.setitem(attention.FUNCTIONS, "prefix_varlen", partial(attention.cascade, kernel=kernel))
    fault = attention._fault("prefix_varlen", torch.device("cpu"), torch.float32, HEADS)
    assert fault is None if why is None else why in fault


def test_torch_accepts_the_calls_of_its_own_kernel():
    """Signatures and shapes only: fake tensors need no GPU."""
    plan, ctx = PLANS[0], SimpleNamespace()
    ctx.save_for_backward = lambda *saved: setattr(ctx, "saved_tensors", saved)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        shapes = [(len(plan), heads, 64) for heads in (4, 2, 2)]
        parts = [torch.empty(shape, dtype=torch.bfloat16, device="cuda") for shape in shapes]
        output = attention.Cascade.forward(ctx, *parts, plan, attention.TorchFlash, 0.125)
        grads = attention.Cascade.backward(ctx, torch.empty_like(output))[:3]
    assert output.shape == shapes[0] and output.dtype == torch.bfloat16
    assert [tuple(grad.shape) for grad in grads] == shapes


def test_without_a_usable_kernel_sdpa_is_chosen_and_says_why(monkeypatch):
    monkeypatch.setattr(attention, "_fault", lambda name, device, dtype, heads: "differs from sdpa by 50.0%")
    names = ("prefix_fa4", "prefix_flash", "prefix_varlen")
    choice = attention._choose(torch.device("cuda"), torch.bfloat16, HEADS, names)
    assert choice == KernelChoice(
        "prefix_sdpa",
        "flash-attn-4 is not installed; flash-attn is not installed; prefix_varlen differs from sdpa by 50.0%",
    )
    assert attention._choose(torch.device("cuda"), torch.float32, HEADS, ()).name == "prefix_sdpa"


def put(folder: Path, *files: str) -> None:
    """Empty modules in a folder on the import path."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


CUTE = ("flash_attn/cute/interface.py", "cutlass/__init__.py")
FLASH_2 = ("flash_attn/__init__.py", "flash_attn_2_cuda.py")


@pytest.mark.parametrize(
    ("files", "two", "four"),
    [
        ((), False, False),
        (CUTE, False, True),
        (CUTE[:1], False, False),  # without its compiler, as flash-attn 2 ships it
        (FLASH_2, True, False),
        ((*FLASH_2, *CUTE), True, True),
        (("flash_attn/__init__.py",), False, False),
    ],
)
def test_the_two_versions_of_flash_attn_are_distinguished(tmp_path, monkeypatch, files, two, four):
    """Both install a package `flash_attn`; neither is imported to find out."""
    put(tmp_path, *files)
    monkeypatch.syspath_prepend(tmp_path)
    assert (bool(attention.flash_attn_2()), bool(attention.flash_attn_4())) == (two, four)
    assert "flash_attn" not in sys.modules
    findings = {finding.what: finding.found for finding in doctor.examine()}
    assert (findings["flash-attn 2"] != "not installed", findings["flash-attn 4"] != "not installed") == (two, four)


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (9, 0), (10, 0)])
def test_flash_attn_4_is_chosen_only_if_it_has_a_backward_pass(monkeypatch, capability):
    monkeypatch.setitem(attention.NEEDS, "prefix_fa4", ("flash-attn-4", lambda: "4.0"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    widths = []
    monkeypatch.setattr(attention, "_fault", lambda name, device, dtype, heads: widths.append(heads.width))
    names = ("prefix_fa4", "prefix_varlen")
    choice = attention._choose(torch.device("cuda"), torch.bfloat16, HEADS, names)
    if capability < (9, 0):
        assert choice.name == "prefix_varlen" and "compute capability 9.0" in choice.why and widths == [24]
    else:
        assert choice.name == "prefix_fa4" and widths == [24, 80]  # the tower's heads are compared too


def test_flash_attn_4_gets_the_segments_and_the_merged_output(monkeypatch):
    """The reference replaces the functions of the package and checks the names and order of their arguments."""
    interface = ModuleType("flash_attn.cute.interface")

    def segments(given):
        lengths = (torch.diff(given[f"cu_seqlens_{side}"]).tolist() for side in "qk")
        made = Segments(*map(tuple, lengths))
        assert given["max_seqlen_q"] == max(made.queries) and given["max_seqlen_k"] == max(made.keys)
        return made

    def forward(q, k, v, softmax_scale, causal, return_lse, **given):
        assert return_lse
        output, lse, _ = Reference.forward(q, k, v, segments(given), causal, softmax_scale)
        return output, lse, None, None, None

    def backward(q, k, v, out, dout, lse, softmax_scale, causal, deterministic, **given):
        return Reference.backward(dout, q, k, v, out, lse, "state", segments(given), causal, softmax_scale)

    interface._flash_attn_fwd, interface._flash_attn_bwd = forward, backward
    for name, module in (("flash_attn", ModuleType("flash_attn")), ("flash_attn.cute", ModuleType("flash_attn.cute")),
                         ("flash_attn.cute.interface", interface)):
        monkeypatch.setitem(sys.modules, name, module)
    assert attention._fault("prefix_fa4", torch.device("cpu"), torch.float32, HEADS) is None


def test_a_model_computes_the_same_through_the_cascade(family, examples, monkeypatch):
    """The whole model through transformers' own attention interface, as on a GPU."""
    from transformers import AttentionInterface

    from medstudy.engine import batches
    from medstudy.engine.image_inputs import ImageInputs
    from medstudy.resolution.policies import Native
    from medstudy.training import train

    policy = Native(max_pixels=10**6)
    seen = [(example, policy.view(batches.size_of(example), family.geometry)) for example in examples]
    (micro,) = batches.micro_batches(ImageInputs(family, "bicubic"), seen, 10**6)
    AttentionInterface.register("prefix_reference", attention._interface(by_cascade))
    results = []
    for name in ("prefix_sdpa", "prefix_reference"):
        attention.install(family.model, KernelChoice(name, ""))
        family.model.zero_grad()
        loss = train.loss_of(ImageInputs(family, "bicubic"), micro.content)
        loss.backward()
        results.append((loss.item(), torch.cat([p.grad.flatten() for p in family.model.parameters()])))
    attention.install(family.model, family.attention)
    assert results[0][0] == pytest.approx(results[1][0], abs=2e-5)
    assert (results[0][1] - results[1][1]).norm() <= 1e-5 * results[0][1].norm()


def test_dropout_and_sliding_windows_are_refused(family):
    from medstudy.errors import ModelError

    plan = PLANS[0]
    (query, key, value), _ = made(plan)
    with pytest.raises(ModelError, match="sliding window"):
        attention._interface(attention.sdpa)(None, query, key, value, None, scaling=1.0, layout=plan, dropout=0.1)
