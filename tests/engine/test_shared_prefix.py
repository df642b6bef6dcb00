"""A packed row with shared prefixes has exactly the losses, gradients and answers of separate sequences."""

from dataclasses import replace

import pytest
import torch

from medstudy import models
from medstudy.data.example import Shot
from medstudy.engine import batches, shared_prefix
from medstudy.engine.batches import size_of
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.row_layout import RowLayout
from medstudy.errors import DataError
from medstudy.params import Model
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Blind, Fixed, Native
from medstudy.training import train
from tests.support.families import FAMILIES, own_inputs

NATIVE = Native(max_pixels=10**6)
BOUNDS = {torch.float32: (2e-6, 1e-5), torch.float64: (1e-12, 1e-12)}  # of the mean loss, and of the whole gradient


@pytest.fixture(scope="module", params=FAMILIES)
def any_family(request, checkpoints):
    """A model with enlarged weights: untrained attention is so even that a wrong mask would barely show."""
    family = models.load(Model(id=str(checkpoints[request.param]), family=request.param))
    with torch.no_grad():
        for parameter in family.model.parameters():
            parameter.mul_(4 if parameter.ndim >= 2 else 1)
    assert family.shades.dtype == torch.float32  # computed here, before a test changes the default type
    return family


def views(family, examples, policy):
    return [(example, plan(policy, size_of(example), family.geometry)[0]) for example in examples]


def packed(family, seen, change=lambda row: row):
    """Mean loss and gradient of all questions in one packed row."""
    supply = ImageInputs(family, "bicubic")
    (micro,) = batches.micro_batches(supply, seen, 10**6)
    batch = replace(micro.content, packed=change(micro.content.packed))
    return _with_gradient(family, train.loss_of(supply, batch) / micro.questions)


def separate(family, seen):
    """The reference: one question per sequence, through the processor and the model's own forward pass."""
    losses = [_one(family, example, view, question) for example, view in seen for question in example.questions]
    return _with_gradient(family, sum(losses) / len(losses))


def _one(family, example, view, question):
    from medstudy.engine.views import render

    image = render(example.image, view, "bicubic") if view.visual_tokens else None
    answer = family.answer_ids(question.answer)
    inputs = own_inputs(family, family.prompt(question, image is not None), image, answer)
    if image is None:
        inputs.pop("mm_token_type_ids", None)
    else:  # the processor's own, as tests/models/test_families.py and test_tiles.py show; of a Qwen one frame of two
        pixels, theirs = family.patches(image).to(family.model.dtype), inputs["pixel_values"]
        inputs["pixel_values"] = pixels.view(theirs.shape) if pixels.numel() == theirs.numel() else pixels
    family.model.model.rope_deltas = None
    logits = family.model(**inputs).logits[0, -len(answer) - 1 : -1]
    family.model.model.rope_deltas = None
    return torch.nn.functional.cross_entropy(logits, torch.tensor(answer))


def _with_gradient(family, loss):
    family.model.zero_grad()
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in family.model.parameters() if p.grad is not None])
    return loss.item(), gradient


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("policy", [NATIVE, Fixed(side=84), Blind()], ids=lambda p: p.label)
def test_losses_and_gradients_equal_those_of_separate_sequences(any_family, examples, policy, dtype, monkeypatch):
    any_family.model.to(dtype)
    if dtype == torch.float64:  # the models' own norms and rotations compute in float32 whatever the weights are
        monkeypatch.setattr(torch, "float32", torch.float64)
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    seen = views(any_family, examples, policy)
    try:
        shared, shared_gradient = packed(any_family, seen)
        loss, gradient = separate(any_family, seen)
    except RuntimeError as error:
        if "expected scalar type Double but found Float" not in str(error) or dtype != torch.double:
            raise
        pytest.skip("rotations of this release of transformers (as 5.17) cannot be widened to float64 for this family")
    finally:
        monkeypatch.undo()
        any_family.model.to(torch.float32)
    loss_bound, gradient_bound = BOUNDS[dtype]
    assert abs(shared - loss) <= loss_bound
    assert (shared_gradient - gradient).norm() <= gradient_bound * gradient.norm()


def _causal(row):
    """Every image and every question attends to all tokens before it."""
    return replace(row, layout=RowLayout((len(row.layout),), ((),)))


def _running_on(row):
    """Positions count the row's tokens: no M-RoPE axes, and a branch does not continue at the end of its prefix."""
    return replace(row, positions=torch.arange(row.ids.shape[1]).expand(len(row.positions), 1, -1))


def _one_image(row):
    """The branches of all images attend to all prefixes."""
    lengths = tuple(length for image in row.layout.branches for length in image)
    return replace(row, layout=RowLayout((row.layout.shared,), (lengths,)))


@pytest.mark.parametrize("change", [_causal, _running_on, _one_image])
def test_a_wrong_mask_or_wrong_positions_fail_the_same_comparison(any_family, examples, change):
    seen = views(any_family, examples, Fixed(side=84))
    exact, exact_gradient = packed(any_family, seen)
    wrong, wrong_gradient = packed(any_family, seen, change)
    assert abs(exact - wrong) > 3e-4  # a hundred times the tolerance
    assert (exact_gradient - wrong_gradient).norm() > 1e-2 * exact_gradient.norm()


def test_cached_features_change_nothing(any_family, pictured, tmp_path):
    from medstudy.engine.tensor_cache import TensorCache

    any_family.freeze_tower()
    seen = views(any_family, pictured, NATIVE)
    direct, direct_gradient = packed(any_family, seen)
    stored = ImageInputs(any_family, "bicubic", features=TensorCache(tmp_path))
    for _ in range(2):  # the second time they come from the cache
        (micro,) = batches.micro_batches(stored, seen, 10**6)
        assert all(part.dtype == torch.float32 for part in micro.content.images)
        loss, gradient = _with_gradient(any_family, train.loss_of(stored, micro.content) / micro.questions)
        assert abs(loss - direct) <= 2e-6
        assert (gradient - direct_gradient).norm() <= 1e-5 * direct_gradient.norm()
    for parameter in any_family.model.parameters():
        parameter.requires_grad_(True)
    assert len(list(tmp_path.rglob("*.safetensors"))) == len(pictured)


@pytest.fixture(scope="module")
def several(examples):
    """A prompt with an answered example and an earlier image, and an image on its own, in the same row."""
    first, second, third, fourth = examples
    answered = Shot(second.image, "What is seen here?", "a dot")
    return [replace(first, context=(answered, Shot(third.image))), fourth]


def _of_several(family, example, shown, question):
    """The reference for a prompt of several images: the model's own forward pass over its tokens."""
    from medstudy.engine.views import render

    row = shared_prefix.row(family, (question,), shown, True, example.context)
    ids = torch.tensor([row.prefix + row.branches[0]])
    answer = row.branches[0][row.answers[0] :]
    pixels = [family.patches(render(image, view, "bicubic")) for _, image, view in batches.shown_images(example, shown)]
    inputs = {"pixel_values": torch.cat(pixels)}
    if family.name.startswith("qwen"):
        inputs |= {"image_grid_thw": row.grids, "mm_token_type_ids": (ids == family.image_token).int()}
    if family.name in ("idefics3", "smolvlm"):
        inputs = {"pixel_values": inputs["pixel_values"][None]}
    if family.name == "gemma3":
        inputs["token_type_ids"] = (ids == family.image_token).int()
    if family.name == "llava_onevision":  # given several images, its own processor shows one tile each
        sizes = [view.size for view in shown.views]
        family.model.config.image_grid_pinpoints = [*family.model.config.image_grid_pinpoints, *map(list, sizes)]
        filled = torch.nn.utils.rnn.pad_sequence(pixels, batch_first=True)
        inputs = {"pixel_values": filled, "image_sizes": torch.tensor(sizes)}
        inputs["batch_num_images"] = torch.ones(len(sizes), dtype=torch.long)
    family.model.model.rope_deltas = None
    logits = family.model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs).logits[0, -len(answer) - 1 : -1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(answer))


@pytest.mark.parametrize("policy", [NATIVE, Fixed(side=84)], ids=lambda p: p.label)
def test_several_images_per_prompt_equal_the_models_own_forward_pass(any_family, several, policy):
    seen = [(example, batches.plan_views(policy, example, any_family.geometry)[0]) for example in several]
    assert [len(view.views) for _, view in seen] == [3, 1]
    loss, gradient = packed(any_family, seen)
    losses = [_of_several(any_family, example, view, question)
              for example, view in seen for question in example.questions]
    own, own_gradient = _with_gradient(any_family, sum(losses) / len(losses))
    assert abs(loss - own) <= 2e-6
    assert (gradient - own_gradient).norm() <= 1e-5 * own_gradient.norm()


def test_the_prompt_of_several_images_is_a_conversation(family, several):
    text = family.prompt(several[0].questions[0], True, several[0].context)
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    assert text.split("<|im_start|>")[2:] == [
        f"user\n{image}What is seen here?<|im_end|>\n",
        "assistant\na dot<|im_end|>\n",
        f"user\n{image}{image}Is there a dot?<|im_end|>\n",
        "assistant\n",
    ]
    assert "vision" not in family.prompt(several[0].questions[0], False, several[0].context)


def test_a_context_with_an_image_token_is_refused(family, several):
    odd = replace(several[0], context=(Shot(several[0].image, "<|image_pad|> what?", "this"),))
    with pytest.raises(DataError, match="must hold 2 image tokens, got 3"):
        shared_prefix.row(family, odd.questions, batches.plan_views(NATIVE, odd, family.geometry)[0], True, odd.context)


def test_prefix_holds_the_image_and_branches_hold_the_questions(family, examples):
    (example, view) = views(family, examples[:1], NATIVE)[0]
    row = shared_prefix.row(family, example.questions, view, answered=True)
    assert row.prefix.count(family.image_token) == view.visual_tokens == 6
    assert row.patches == (24,)
    texts = [family.processor.tokenizer.decode(branch) for branch in row.branches]
    assert texts[0] == "Is there a dot?<|im_end|>\n<|im_start|>assistant\nno<|im_end|>"
    assert texts[2].startswith("Which colour is shown?\nA. red\nB. blue\nAnswer with a single letter")
    for branch, start, question in zip(row.branches, row.answers, example.questions, strict=True):
        assert family.text(branch[start:]) == question.answer


def test_a_question_with_an_image_token_is_refused(family, examples):
    (example, view) = views(family, examples[:1], NATIVE)[0]
    asked = (*example.questions, replace(example.questions[0], id="odd", text="What is <|image_pad|>?"))
    with pytest.raises(DataError, match="'odd' contains the image token"):
        shared_prefix.row(family, asked, view, answered=True)


def test_a_packed_row_locates_its_answers(family, examples):
    rows = [shared_prefix.row(family, example.questions, view, True)
            for example, view in views(family, examples, Fixed(side=84))]
    made = shared_prefix.pack(family, rows)
    assert made.layout.prefixes == tuple(len(row.prefix) for row in rows)
    assert made.ids.shape[1] == len(made.layout) == sum(map(len, rows))
    assert made.ids[0, : made.layout.shared].tolist() == [token for row in rows for token in row.prefix]
    for number, question in enumerate(question for example in examples for question in example.questions):
        places = made.at[made.question == number]
        assert family.text(made.ids[0, places + 1].tolist()) == question.answer == family.text(
            made.targets[made.question == number].tolist()
        )
        assert made.ids[0, made.last[number]] == family.end and int(made.last[number]) == int(places[-1]) + 1
    prefix_end = made.positions[:, 0, : made.layout.prefixes[0]].max()
    first = made.positions[:, 0, made.layout.shared : made.layout.shared + 3]
    assert torch.equal(first, (prefix_end + 1 + torch.arange(3)).expand(3, -1))


def test_a_question_has_the_same_weight_whatever_its_answers_length(family, examples):
    seen = views(family, examples[:1], Fixed(side=84))
    whole, _ = packed(family, seen)
    alone = [separate(family, [(replace(seen[0][0], questions=(q,)), seen[0][1])])[0] for q in examples[0].questions]
    assert len({len(family.ids(question.answer)) for question in examples[0].questions}) > 1
    assert whole == pytest.approx(sum(alone) / 3, abs=1e-5)
