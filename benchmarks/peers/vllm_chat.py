"""vLLM's offline chat with its prefix cache on: every question of an image in one call, greedily, in this process.

Untried: no machine of ours had vLLM. The weights are random, drawn by vLLM itself ("dummy"), so that only time counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from benchmarks.peers import common
from benchmarks.runner import NotRun


def lines(bench, questions: int) -> Iterator[dict]:
    """Our evaluation at 1008² against vLLM's, seconds a question."""
    from benchmarks.gpu_stages import alternating

    if bench.device != "cuda":
        raise NotRun("vLLM is measured on a GPU")
    options = bench.options(bench.images(1008, 1008, 4), images_per_step=1, steps=4, max_new_tokens=16)
    model = engine(options)
    name = f"evaluation at 1008², {questions} questions"
    yield from alternating(name, partial(bench.generate, options), partial(answered, model, options), "vllm", 2, 1.5)


def engine(options):
    from vllm import LLM

    return LLM(
        model=str(options.model), dtype=options.dtype, load_format="dummy", enable_prefix_caching=True,
        gpu_memory_utilization=0.4, max_model_len=8192, limit_mm_per_prompt={"image": 1},
        mm_processor_kwargs={"size": common.pixel_limits(options.model)},
    )


def answered(model, options) -> dict:
    """All questions in one call, so that vLLM may batch them freely; its caches are empty at the start."""
    from PIL import Image
    from vllm import SamplingParams

    model.reset_prefix_cache()
    images = common.read(options.data)[: options.steps * options.images_per_step]
    started = time.perf_counter()
    chats = []
    for one in images:
        image = Image.open(one["image"]).convert("RGB")
        for question in one["questions"]:
            content = [{"type": "image_pil", "image_pil": image}, {"type": "text", "text": question["prompt"]}]
            chats.append([{"role": "system", "content": options.system}, {"role": "user", "content": content}])
    made = model.chat(chats, SamplingParams(temperature=0.0, max_tokens=options.max_new_tokens), use_tqdm=False)
    seconds = time.perf_counter() - started
    return {"questions": len(made), "seconds_per_question": seconds / len(made), "attention": "vllm"}
