"""An image of 12 megapixels on its way to the device, in milliseconds of one core.

    python -m benchmarks.inputs

Ours: the stored JPEG becomes uint8 pixels at their planned size in memory, taken from the tensor cache, or decoded,
resized and put there. The peer is the plain path to the same view, Pillow and the image processor of transformers,
whose time includes the normalisation that ours leaves to the device. All are timed in turn in one process.
"""

from __future__ import annotations

import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2VLImageProcessor

from medstudy.data.encoded_image import Picture
from medstudy.engine import views
from medstudy.engine.tensor_cache import TensorCache
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Native
from medstudy.resolution.sizes import Geometry, Size

SIZE = Size(3000, 4000)
REPEATS = 5
CACHED, COLD = 25.0, 190.0  # goals, ms
PEER = "Pillow decode + Qwen2VLImageProcessor"


def measure() -> list[dict]:
    """One row a promise: name, unit, ours, peer (medians), peer_name, ratio (peer / ours), goal, floor.

    goal: ours should be at most this; floor: above this the benchmark has failed.
    """
    torch.set_num_threads(1)
    data = photo(SIZE)
    picture = Picture(data, "photo")
    (shown,) = plan(Native(max_pixels=2 * SIZE.pixels), SIZE, Geometry(28, 784))
    memory = torch.empty((*shown.size, 3), dtype=torch.uint8)  # where a batch is collected, page-locked with a device
    processor = Qwen2VLImageProcessor(size={"shortest_edge": 784, "longest_edge": 2 * SIZE.pixels})

    def plain() -> None:
        processor(images=[Image.open(io.BytesIO(data)).convert("RGB")], return_tensors="pt")

    with tempfile.TemporaryDirectory() as folder:
        shelf = TensorCache(Path(folder))

        def cold() -> None:
            (shelf.folder / key[:2] / f"{key}.safetensors").unlink(missing_ok=True)
            memory.copy_(views.cached(picture, shown, "bicubic", shelf))

        def cached() -> None:
            memory.copy_(views.cached(picture, shown, "bicubic", shelf))

        key = views.key(picture, shown, "bicubic")
        times = interleaved({"cold": cold, "cached": cached, "plain": plain}, REPEATS)
    return [
        row("12-MP image from the tensor cache", times["cached"], times["plain"], CACHED),
        row("12-MP image from its JPEG", times["cold"], times["plain"], COLD),
    ]


def photo(size: Size) -> bytes:
    """A JPEG of quality 90, 4:2:0: colour that varies over 8 to 512 pixels, and the noise of a sensor."""
    rng = np.random.default_rng(0)
    values = np.full((*size, 3), 128, np.float32)
    for side, contrast in ((8, 36), (64, 24), (512, 15)):
        cells = rng.normal(0, contrast, (size.height // side + 2, size.width // side + 2, 3)).astype(np.float32)
        for channel in range(3):
            cloud = Image.fromarray(cells[..., channel]).resize((size.width, size.height), Image.Resampling.BICUBIC)
            values[..., channel] += np.asarray(cloud)
    values += rng.normal(0, 2.4, (*size, 1)).astype(np.float32)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90, subsampling=2)
    return buffer.getvalue()


def interleaved(calls: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of processor time of every call, in turn; a first turn is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn:
                times[name].append(1000 * (time.process_time() - start))
    return times


def row(name: str, ours: list[float], peer: list[float], goal: float) -> dict:
    mine, theirs = statistics.median(ours), statistics.median(peer)
    return {"name": name, "unit": "ms of one core", "ours": round(mine, 1), "peer": round(theirs, 1),
            "peer_name": PEER, "ratio": round(theirs / mine, 2), "goal": goal, "floor": goal}


if __name__ == "__main__":
    for line in measure():
        print(json.dumps(line))
