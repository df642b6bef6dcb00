"""transformers' evaluation as in a model's card: one question at a time through the processor and `generate`, greedily.

Asks every question of `--steps` times `--images-per-step` images in the order of the file, but no image twice.
"""

from __future__ import annotations

import statistics

from benchmarks.peers import common
from benchmarks.peers.clock import now, peak_bytes


def main() -> None:
    options = common.arguments(__doc__)
    common.require("torch", "transformers")
    import torch

    torch.set_num_threads(options.threads)
    model = common.load_model(options).eval().to(options.device)
    common.write(options.out, {"peer": "generate", **common.described(options), **measured(options, model)})


def measured(options, model) -> dict:
    """The questions of --steps times --images-per-step images, one at a time; the first is asked once before."""
    images = common.read(options.data)
    common.check_sizes(options.model, images)
    images = images[: options.steps * options.images_per_step]
    rows = [common.Row(image["image"], one["prompt"], one["answer"]) for image in images for one in image["questions"]]
    processor = common.load_processor(options.model)
    ask(model, processor, rows[0], options)  # a warm-up, not counted
    asked = [ask(model, processor, row, options) for row in rows]
    seconds = [one["seconds"] for one in asked]
    tokens = [common.visual_tokens(options.model, image["image"]) for image in images]
    return {
        "settings": {"do_sample": False, "max_new_tokens": options.max_new_tokens},
        "attention": model.config._attn_implementation,
        "images": len(images),
        "questions": len(rows),
        "visual_tokens_per_image": sum(tokens) / len(tokens),
        "seconds_per_question": sum(seconds) / len(rows),
        "median_seconds": statistics.median(seconds),
        "seconds": sum(seconds),
        "questions_per_second": len(rows) / sum(seconds),
        "input_seconds_per_question": statistics.median(one["input_seconds"] for one in asked),
        "peak_memory_bytes": peak_bytes(options.device),
        "asked": asked,
    }


def ask(model, processor, row: common.Row, options) -> dict:
    """The generated tokens, the end of turn included, and the seconds from the image's file to them."""
    import torch
    from PIL import Image

    started = now(options.device)
    text = processor.apply_chat_template(common.messages(options.system, row.prompt), add_generation_prompt=True)
    image = Image.open(row.image).convert("RGB")
    inputs = processor(text=[text], images=[image], return_tensors="pt").to(options.device)
    prepared = now(options.device)
    with torch.inference_mode():
        made = model.generate(**inputs, do_sample=False, max_new_tokens=options.max_new_tokens)
    ids = made[0, inputs["input_ids"].shape[1] :].tolist()
    seconds = now(options.device) - started
    expected = common.visual_tokens(options.model, row.image)
    if int(inputs["image_grid_thw"].prod()) != expected * model.config.vision_config.spatial_merge_size**2:
        raise SystemExit(f"{row.image} must hold {expected} visual tokens: resized?")
    return {"image": row.image, "prompt": row.prompt, "ids": ids, "seconds": seconds,
            "input_seconds": prepared - started}


if __name__ == "__main__":
    main()
