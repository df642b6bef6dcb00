"""DINOv2 from an ONNX graph to transformers' `Dinov2Model`.

PyTorch's exporter keeps the names of most weights. It folds constants, so three kinds lose theirs: the matrix of a
linear layer is stored transposed under a number, and its name is that of the multiplication that reads it; and the
position embeddings are two numbered tensors, that of the class token and those of the patches.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

from medstudy.errors import ModelError
from medstudy.models.convert import onnx_file
from medstudy.models.convert.onnx_file import Node

HEADS = 6  # of DINOv2-S; no shape in the file depends on it
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet: with these DINOv2 was trained


def write(content: bytes, folder: Path, heads: int = HEADS) -> None:
    """Fill a folder with weights, configuration and image processor. content: an ONNX file.

    The image processor normalises and does not resize, because the study plans the sizes. Raises ModelError if the
    file does not hold all weights of a DINOv2, or others.
    """
    weights, config = dinov2(*onnx_file.read(content), heads)
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    BitImageProcessor(
        do_resize=False, do_center_crop=False, do_rescale=True, do_normalize=True, image_mean=list(MEAN),
        image_std=list(STD),
    ).save_pretrained(folder)
    _, loaded = Dinov2Model.from_pretrained(folder, output_loading_info=True)
    if wrong := [f"{len(names)} {kind.replace('_', ' ')}" for kind, names in loaded.items() if names]:
        raise ModelError(f"The file must hold the weights of a DINOv2 and no others, got {', '.join(wrong)}.")


def dinov2(
    weights: dict[str, torch.Tensor], nodes: list[Node], heads: int
) -> tuple[dict[str, torch.Tensor], Dinov2Config]:
    """The encoder's weights [as in the hub's files] and its configuration. Raises ModelError."""
    state = {name.removeprefix("backbone."): value for name, value in weights.items() if name.startswith("backbone.")}
    positions = {}
    for node in nodes:
        unnamed = [weights[name] for name in node.inputs if name in weights and not name.startswith("backbone.")]
        if node.operation == "MatMul" and node.name.startswith("/backbone/"):
            name = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            state |= {f"{name}.weight": matrix.T.contiguous() for matrix in unnamed}
        elif node.name.startswith("/backbone/embeddings/"):
            positions |= {value.shape[1] == 1: value for value in unnamed}  # True: the class token's
    if positions.keys() != {True, False} or "cls_token" not in (name.split(".")[-1] for name in state):
        raise ModelError("A DINOv2 has a class token and position embeddings, but the file does not. Fetch it again.")
    state["embeddings.position_embeddings"] = torch.cat([positions[True], positions[False]], 1)
    return state, _config(state, heads)


def _config(state: dict[str, torch.Tensor], heads: int) -> Dinov2Config:
    """The configuration that the shapes of the weights imply."""
    width, patch = (state["embeddings.patch_embeddings.projection.weight"].shape[axis] for axis in (0, -1))
    patches = state["embeddings.position_embeddings"].shape[1] - 1
    return Dinov2Config(
        hidden_size=width,
        num_hidden_layers=sum(name.endswith("norm1.weight") for name in state),
        num_attention_heads=heads,
        mlp_ratio=state["encoder.layer.0.mlp.fc1.bias"].shape[0] // width,
        image_size=math.isqrt(patches) * patch,
        patch_size=patch,
        use_mask_token=False,
        architectures=["Dinov2Model"],
    )
