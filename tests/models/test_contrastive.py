"""Contrastive encoders equal transformers' own at the trained size and at every other; what is wrong is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, pipeline

from medstudy.errors import ModelError
from medstudy.models import contrastive, shades
from medstudy.params import Model
from medstudy.resolution.policies import Fixed, Native
from medstudy.resolution.resize import resize
from medstudy.resolution.sizes import Size, View
from tests.support.contrastive import BUILD, PATCH, SIDE

WORDS = ["a dot", "nothing at all", "a line of dots"]
NAMED = [f"a photo of {word}" for word in WORDS]
SIZES = [(SIDE, SIDE), (2 * SIDE, SIDE), (PATCH, 5 * PATCH), (3 * SIDE, 3 * SIDE), (2 * PATCH, 8 * PATCH)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: build(tmp_path_factory.mktemp(name)) for name, build in BUILD.items()}


@pytest.fixture(scope="module", params=BUILD)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def loaded(folders, name):
    """Our encoder and transformers' own model and processor."""
    place = folders[name]
    own = AutoModel.from_pretrained(place), AutoProcessor.from_pretrained(place)
    return contrastive.load(Model(id=str(place), family="clip")), *own


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pixels(height, width, seed=0):
    return torch.from_numpy(noise(height, width, seed))


def of_processor(name, images, image, patches=16):
    """The image processor's own values of an image."""
    own = {"max_num_patches": patches, "patch_size": PATCH} if name == "siglip2" else {}
    return images(images=[Image.fromarray(image)], return_tensors="pt", **own)


def of_texts(name, processor, texts):
    padding = {"padding": True} if "clip" in name else {"padding": "max_length", "max_length": 64}
    return processor.tokenizer(texts, return_tensors="pt", **padding)


def test_scores_are_those_of_the_model_with_its_own_processor_at_the_trained_size(name, loaded):
    eye, model, processor = loaded
    image = noise(SIDE, SIDE)
    with torch.no_grad():
        own = model(**of_texts(name, processor, NAMED), **of_processor(name, processor.image_processor, image))
    bias = getattr(model, "logit_bias", torch.zeros(1)).detach()
    ours = eye.logits(eye.images([torch.from_numpy(image)]), eye.texts(NAMED)) + bias
    torch.testing.assert_close(ours, own.logits_per_image, rtol=1e-5, atol=1e-5)
    assert ours.std() > 1e-3  # the texts do not look alike


def test_the_answer_is_that_of_the_pipeline(name, folders, loaded):
    ask, eye = pipeline("zero-shot-image-classification", model=str(folders[name]), device="cpu"), loaded[0]
    found = set()
    for seed in range(8):
        image = noise(SIDE, SIDE, seed) // (1 + seed % 4)
        listed = ask(Image.fromarray(image), candidate_labels=WORDS, hypothesis_template="a photo of {}")
        ours = eye.logits(eye.images([torch.from_numpy(image)]), eye.texts(NAMED))[0]
        assert WORDS[int(ours.argmax())] == listed[0]["label"]
        if "clip" in name:  # SigLIP's are sigmoids
            shares = dict(zip(WORDS, ours.softmax(0).tolist(), strict=True))
            assert {one["label"]: one["score"] for one in listed} == pytest.approx(shares, abs=1e-5)
        found.add(listed[0]["label"])
    assert len(found) > 1 or name != "clip"


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_another_size_is_what_transformers_makes_of_it_by_interpolated_positions(name, loaded, size):
    eye, model, processor = loaded
    image = noise(*size)
    ours = eye.images([torch.from_numpy(image)])
    with torch.no_grad():
        if name == "siglip2":  # the processor keeps an image that has just as many patches
            patches = size[0] * size[1] // PATCH**2
            inputs = of_processor(name, processor.image_processor, image, patches)
            assert inputs["spatial_shapes"].tolist() == [[side // PATCH for side in size]]
            own = model.get_image_features(**inputs).pooler_output
        else:
            values = processor.image_processor(images=[Image.fromarray(image)], do_resize=False, do_center_crop=False,
                                               return_tensors="pt")
            own = model.get_image_features(**values, interpolate_pos_encoding=True).pooler_output
    torch.testing.assert_close(ours, own / own.norm(dim=-1, keepdim=True), rtol=1e-5, atol=1e-5)


def test_pixels_are_the_processors_own_at_the_trained_size(name, folders):
    """Of an image of any size where the processor stretches or fits; CLIP's would crop, so of one that is square."""
    processor = AutoImageProcessor.from_pretrained(folders[name], backend="torchvision")
    image = noise(75, 75) if "clip" in name else noise(57, 91)
    own = of_processor(name, processor, image)
    size, interpolation = Size(SIDE, SIDE), "bicubic"
    if name == "siglip2":
        size, interpolation = Size(*(PATCH * own["spatial_shapes"][0]).tolist()), "bilinear"
    shown = resize(image, View("own", (size,), size, 0), interpolation)
    vision = AutoConfig.from_pretrained(folders[name]).vision_config
    ours = contrastive.tower_inputs(vision, shades.applied(shown, shades.of(processor))[None])["pixel_values"]
    assert torch.equal(ours, own["pixel_values"][:, : ours.shape[1]]) and ours.numel() == 3 * size.pixels


def test_images_of_one_size_together_equal_each_alone(loaded):
    eye = loaded[0]
    batch = [pixels(SIDE, 2 * SIDE, seed) for seed in range(3)]
    alone = torch.cat([eye.images([image]) for image in batch])
    torch.testing.assert_close(eye.images(batch), alone, rtol=1e-5, atol=1e-5)
    assert torch.allclose(alone.norm(dim=1), torch.ones(3))


def test_a_blank_image_is_one_of_the_processors_mean_colour(name, loaded):
    eye = loaded[0]
    mean = torch.zeros(SIDE, SIDE, 3, dtype=torch.uint8) + eye.shades.abs().argmin(1).to(torch.uint8)
    near, far = eye.images([mean]) @ eye.blank.T, eye.images([pixels(SIDE, SIDE)]) @ eye.blank.T
    assert near > 0.95 > far


def test_the_policy_decides_the_size_in_whole_patches(name, folders, loaded, tmp_path):
    geometry = loaded[0].geometry
    shutil.copy(folders[name] / "config.json", tmp_path)  # no weights are needed for a plan
    assert contrastive.sketch(Model(id=str(tmp_path), family="clip")) == geometry
    assert Native(max_pixels=10**6).view(Size(90, 61), geometry).size == (88, 64)
    view = Fixed(side=32).view(Size(90, 61), geometry)
    assert view.size == (32, 24) and view.visual_tokens == 12


@pytest.mark.parametrize("size", SIZES[:2], ids=str)
def test_operations_are_those_that_torch_counts(folders, name, size):
    """With plain attention, whose operations torch sees; norms and activations are not counted by either."""
    eye = contrastive.load(Model(id=str(folders[name]), family="clip"))
    eye.model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        eye.images([pixels(*size)])
    assert eye.flops(Size(*size)) == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_texts_of_the_models_limit_are_read_whole_and_longer_ones_are_cut(loaded):
    eye = loaded[0]
    around = eye.lengths(["a"])[0] - 1
    full = "a" * (eye.limit - around)
    assert eye.lengths([full, full + "b"]) == [eye.limit, eye.limit + 1]
    whole, other, longer, longest = eye.texts([full, full[:-1] + "b", full + "b", full + "bc"])
    assert not torch.allclose(whole, other, atol=1e-4) and torch.allclose(longer, longest, atol=1e-6)


def test_bfloat16_is_close_to_float32(folders, name, loaded):
    half = contrastive.load(Model(id=str(folders[name]), family="clip", dtype="bfloat16"))
    assert half.model.dtype == torch.bfloat16
    for size in ((SIDE, SIDE), (SIDE, 2 * SIDE)):
        image = [pixels(*size)]
        assert (half.images(image) * loaded[0].images(image)).sum() > 0.98


def broken(folders, name, folder, change):
    """A copy of a checkpoint with its tensors changed."""
    copy = shutil.copytree(folders[name], folder / "copy")
    tensors = load_file(copy / "model.safetensors")
    save_file(change(tensors), copy / "model.safetensors", metadata={"format": "pt"})
    return Model(id=str(copy), family="clip")


def test_positions_that_old_releases_stored_are_not_needed(folders, tmp_path):
    """openai/clip-vit-base-patch32, for example, has the numbers 0, 1, 2, … as two tensors."""
    stored = {f"{tower}_model.embeddings.position_ids": torch.arange(17)[None] for tower in ("text", "vision")}
    contrastive.load(broken(folders, "clip", tmp_path, lambda tensors: tensors | stored))


def test_a_checkpoint_is_loaded_whole_or_not_at_all(folders, name, tmp_path):
    lost = "text_model.final_layer_norm.weight"
    with pytest.raises(ModelError, match=f"1 are missing from the files .{lost}"):
        contrastive.load(broken(folders, name, tmp_path, lambda tensors: {
            key: value for key, value in tensors.items() if key != lost}))


def test_weights_in_a_pickle_are_not_read(folders, tmp_path):
    copy = shutil.copytree(folders["clip"], tmp_path / "copy")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="a pickle can run code"):
        contrastive.load(Model(id=str(copy), family="clip"))


def test_a_checkpoint_of_another_kind_is_named(tiny_model, folders, tmp_path):
    with pytest.raises(ModelError, match="model_type of clip, metaclip_2, siglip, siglip2, but .* is a qwen2_vl"):
        contrastive.load(Model(id=tiny_model.id, family="clip"))
    copy = shutil.copytree(folders["clip"], tmp_path / "copy")  # as BiomedCLIP's folder on the hub
    (copy / "config.json").rename(copy / "open_clip_config.json")
    with pytest.raises(ModelError, match="no config.json"):
        contrastive.load(Model(id=str(copy), family="clip"))


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(folders, tmp_path):
    copy = shutil.copytree(folders["siglip"], tmp_path / "copy")
    file = copy / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["é"] = len(content["model"]["vocab"])
    file.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="names only tokens that the model has"):
        contrastive.load(Model(id=str(copy), family="clip"))
