"""Compressed visual tokens: what is averaged or kept, its positions, and answers equal to those of the plain model."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medstudy.engine import batches, compression, shared_prefix
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.row_layout import VisualTokens
from medstudy.engine.views import render
from medstudy.evaluation import evaluate
from medstudy.params import Decoding
from medstudy.resolution.compress import Compress
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Mixed, Native
from medstudy.resolution.sizes import Reduction, Size, TokenGrid
from medstudy.training import train
from tests.support import families

NATIVE = Native(max_pixels=10**6)
POOL, PRUNE = Compress(max_pixels=10**6, pool=2), Compress(max_pixels=10**6, share=0.4)
STUDY = SimpleNamespace(interpolation="bicubic", workers=0, evaluation=Decoding(max_new_tokens=8, tokens_per_pass=300))
POOLED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "idefics3", "smolvlm", "gemma3")


@pytest.fixture(scope="module")
def loud(checkpoints):
    """Families whose answers depend on their images."""
    return families.loud(checkpoints, 5)


def test_pooling_is_the_mean_of_each_block():
    grid = TokenGrid(2, 3, 5)
    tokens = torch.randn(30, 4, dtype=torch.float64)
    ours = compression.pool(tokens, Reduction(grid, 2))
    blocks = [tokens.view(2, 3, 5, 4)[g, r : r + 2, c : c + 2].flatten(0, 1).mean(0)
              for g in range(2) for r in (0, 2) for c in (0, 2, 4)]
    torch.testing.assert_close(ours, torch.stack(blocks))


def test_pruning_keeps_by_its_rule_in_reading_order():
    tokens = torch.tensor([[1.0, 0], [5, 0], [0, 3], [2, 0], [5, 0], [1, 0]])
    kept = {rule: compression.prune(tokens, Reduction(TokenGrid(1, 2, 3), 1, 0.34, rule)).tolist()
            for rule in ("norm", "similarity", "even")}
    assert kept == {"norm": [1, 4], "similarity": [0, 2], "even": [0, 3]}  # the first of equal ones


@pytest.mark.parametrize("name", POOLED)
def test_a_token_grid_is_in_reading_order(loud, name):
    """Another value in one place of the tower's features changes the tokens of its place alone."""
    family = loud(name)
    factor = family.geometry.factor
    size = Size(factor, 2 * factor) if family.geometry.most_units != 1 else Size(factor, factor)
    size = Size(3 * factor, 5 * factor) if name.startswith("qwen") else size
    grids, tokens = family.grid(size), family.geometry.token_grid(size)
    assert tokens.tokens == family.geometry.tokens(size)
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    with torch.no_grad():
        features = family.features(family.patches(image), grids)
        before = family.merge(features, grids).tokens
        rows, columns = tokens.rows, tokens.columns
        from medstudy.bounds import places

        where = places.of(family, size)  # the place of each row of features, as a share of the image's sides
        first = slice(0, len(features) // tokens.grids)  # of the first tile, which is the first of its row
        there = where[first] if tokens.grids > 1 else where
        wide = size.width // factor if tokens.grids > 1 else 1
        row, column = rows - 1, columns // 2
        inside = ((there[:, 0] * rows).long() == row) & ((there[:, 1] * wide * columns).long() == column)
        changed = features.clone()
        changed[first][inside] += 1
        after = family.merge(changed, grids).tokens
    differ = (before != after).any(-1).nonzero().flatten().tolist()
    assert differ == [row * columns + column]


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl"])
def test_pooled_tokens_have_the_positions_of_an_image_of_as_many(loud, examples, name):
    family, size = loud(name), Size(140, 196)
    factor = family.geometry.factor
    (view,) = plan(POOL, Size(5 * factor, 7 * factor), family.geometry)
    (smaller,) = plan(NATIVE, Size(3 * factor, 4 * factor), family.geometry)
    pooled, plain = (
        shared_prefix.pack(family, [shared_prefix.row(family, examples[0].questions, shown, True)])
        for shown in (view, smaller)
    )
    assert size and torch.equal(pooled.ids, plain.ids) and torch.equal(pooled.positions, plain.positions)
    assert view.visual_tokens == 12 and pooled.visual == 12


def test_pruned_tokens_keep_their_own_positions_and_the_text_goes_on_after_the_whole_image(loud, examples):
    family, example = loud("qwen2_vl"), examples[2]
    (view,), (whole,) = (plan(policy, Size(140, 196), family.geometry) for policy in (PRUNE, NATIVE))
    rows = [shared_prefix.row(family, example.questions, shown, True) for shown in (view, whole)]
    pruned, plain = (shared_prefix.pack(family, [row]) for row in rows)
    image = pruned.ids == family.image_token, plain.ids == family.image_token
    assert pruned.visual == 14 and plain.visual == 35
    # text: as with the whole image
    assert torch.equal(pruned.positions[:, ~image[0]], plain.positions[:, ~image[1]])
    # tokens: those of the places that the tower's output decides
    inputs, passed = ImageInputs(family, "bicubic"), {}
    pixels = [render(example.image, view, "bicubic")]
    language = family.model.model.language_model
    hook = language.register_forward_pre_hook(lambda _, args, kwargs: passed.update(kwargs), with_kwargs=True)
    with torch.no_grad():
        seen, full = inputs.visual_tokens(pixels, pruned.grids, pruned.reductions), family.look(pixels, plain.grids)
        family.hidden(pruned, seen)
    hook.remove()
    kept = full.tokens.norm(dim=-1).topk(14).indices.sort().values
    assert torch.equal(seen.tokens, full.tokens[kept])
    own = plain.positions[:, image[1]][:, kept]
    assert torch.equal(passed["position_ids"][:, image[0]], own)
    assert not torch.equal(pruned.positions[:, image[0]], own)


def _texts(family, examples, policy):
    return evaluate.predict(family, examples, policy, STUDY)


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl", "gemma3"])
def test_compressing_to_all_tokens_equals_native(loud, examples, name):
    family, native = loud(name), None
    native = _texts(family, examples, NATIVE)
    trivial = [Compress(max_pixels=10**6, pool=1)]
    trivial += [Compress(max_pixels=10**6, share=1)] if name != "gemma3" else []
    for policy in trivial:
        ours = _texts(family, examples, policy)
        same = [column for column in ours if column not in ("inference",)]
        assert ours[same].equals(native[same])
        assert (ours["inference"] == policy.label).all()


@pytest.mark.parametrize("policy", [POOL, PRUNE, Compress(max_pixels=10**6, share=0.4, by="even")],
                         ids=lambda policy: policy.label)
def test_answers_do_not_depend_on_the_packing_and_rows_count_what_is_left(loud, examples, policy):
    family = loud("qwen3_vl")  # DeepStack's tokens are reduced too
    together, native = _texts(family, examples, policy), _texts(family, examples, NATIVE)
    alone = [_texts(family, [example], policy) for example in examples]
    assert together["raw_text"].tolist() == [text for part in alone for text in part["raw_text"]]
    assert (together["visual_tokens"] < native["visual_tokens"]).all()
    for column in ("shown_height", "shown_width", "detail_height", "scale", "budget_pixels"):
        assert together[column].equals(native[column])
    assert together["raw_text"].tolist() != native["raw_text"].tolist()


@pytest.mark.parametrize("policy", [POOL, PRUNE], ids=lambda policy: policy.label)
def test_a_training_takes_it_alone_and_mixed(loud, examples, policy):
    """The loss of compressed and plain images in one row is the sum of their losses apart."""
    family = loud("qwen2_vl")
    inputs = ImageInputs(family, "bicubic")
    shown = [(example, batches.plan_views(part, example, family.geometry)[0])
             for example, part in zip(examples, (policy, NATIVE, policy, NATIVE), strict=True)]
    (together,) = batches.micro_batches(inputs, shown, 10**6)
    with torch.no_grad():
        apart = [float(train.loss_of(inputs, batches.micro_batches(inputs, [one], 10**6)[0].content)) for one in shown]
        whole = float(train.loss_of(inputs, together.content))
    assert whole == pytest.approx(sum(apart), rel=1e-5)
    assert together.visual_tokens == sum(view.visual_tokens for _, view in shown)
    mixed = Mixed(choices=(policy, NATIVE))
    assert {view.label for draw in (0.1, 0.9) for view in plan(mixed, Size(90, 90), family.geometry, draw)} == {
        policy.label, "native"}


def test_without_reductions_tokens_are_untouched():
    seen = VisualTokens(torch.ones(3, 2))
    assert compression.reduced(seen, ()) is seen
