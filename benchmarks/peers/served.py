"""Evaluation through a server with OpenAI's interface: all questions of the images, `--concurrency` at the same time.

The server may be vLLM, SGLang or `transformers serve`, with a prefix cache or without; start it first, so that it
resizes nothing. It needs the package openai. `--served` is the model's name there, `--model` its folder here, for its
sizes.
"""

from __future__ import annotations

import argparse
import base64
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.peers import common

AROUND = range(0, 9)  # prompt tokens that a template may put around an image, besides its visual tokens


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--url", required=True)
    parser.add_argument("--served", required=True)
    parser.add_argument("--concurrency", type=int, default=32)
    own, others = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    options = common.arguments(__doc__, others)
    common.require("openai")
    import openai

    client = openai.OpenAI(base_url=own.url, api_key="none", max_retries=0, timeout=600)
    common.write(options.out, {"peer": "served", **common.described(options), **measured(client, own, options)})


def measured(client, own: argparse.Namespace, options: argparse.Namespace) -> dict:
    """The questions of --steps times --images-per-step images; those of an image follow each other."""
    images = common.read(options.data)
    common.check_sizes(options.model, images)
    images = images[: options.steps * options.images_per_step]
    rows = [(image["image"], one["prompt"]) for image in images for one in image["questions"]]

    def ask(row: tuple[str, str], image: bool = True) -> dict:
        began = time.perf_counter()
        content = [{"type": "image_url", "image_url": {"url": _uri(row[0])}}] if image else []
        turns = [{"role": "system", "content": [{"type": "text", "text": options.system}]},
                 {"role": "user", "content": [*content, {"type": "text", "text": row[1]}]}]
        made = client.chat.completions.create(
            model=own.served, messages=turns, temperature=0.0, seed=0, max_completion_tokens=options.max_new_tokens)
        return {"image": row[0], "prompt": row[1], "text": (made.choices[0].message.content or "").strip(),
                "prompt_tokens": made.usage.prompt_tokens, "seconds": time.perf_counter() - began}

    _check_size(ask(rows[0]), ask(rows[0], image=False), common.visual_tokens(options.model, rows[0][0]))
    started = time.perf_counter()
    with ThreadPoolExecutor(own.concurrency) as pool:
        asked = list(pool.map(ask, rows))
    seconds = time.perf_counter() - started
    return {
        "settings": {"temperature": 0, "max_new_tokens": options.max_new_tokens, "concurrency": own.concurrency},
        "images": len(images),
        "questions": len(rows),
        "seconds": seconds,
        "seconds_per_question": seconds / len(rows),
        "questions_per_second": len(rows) / seconds,
        "asked": asked,
    }


def _check_size(seen: dict, blind: dict, planned: int) -> None:
    """Leave if the server's prompt tokens show that it resized the image; this is also the warm-up."""
    counted = seen["prompt_tokens"] - blind["prompt_tokens"]
    if counted - planned not in AROUND:
        raise SystemExit(f"{seen['image']} must take {planned} visual tokens, the server counts {counted}: resized?")


def _uri(image: str) -> str:
    return "data:image/png;base64," + base64.b64encode(Path(image).read_bytes()).decode()


if __name__ == "__main__":
    main()
