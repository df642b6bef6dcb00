"""ms-swift's `swift sft`, all weights trained. Its packing for images needs flash attention, so a GPU: --packing."""

from __future__ import annotations

import json

from benchmarks.peers import common


def train(options, planned, clock, scratch) -> tuple[list[float], dict]:
    from swift.callbacks.mapping import callbacks_map
    from swift.pipelines import sft_main
    from swift.template.templates.qwen import Qwen2VLTemplate

    # swift writes down the id of the released checkpoints; for them this line changes nothing.
    Qwen2VLTemplate.image_token_id = json.loads((options.model / "config.json").read_text())["image_token_id"]
    callbacks_map["clock"] = lambda args, trainer: clock.callback()
    data = scratch / "rows.jsonl"
    data.write_text("".join(json.dumps(line(row, options.system)) + "\n" for row in planned.rows))
    settings = common.training_arguments(options, planned, scratch)
    settings |= {
        "model": str(options.model.resolve()),
        "model_type": "qwen2_vl",
        "template": "qwen2_vl",
        "check_model": False,
        "tuner_type": "full",
        "freeze_vit": False,
        "freeze_aligner": False,
        "torch_dtype": options.dtype,
        "attn_impl": "flash_attn" if options.packing else "sdpa",
        "packing": options.packing,
        "packing_length": common.pack_length(options, planned) if options.packing else 2**20,
        "dataset": str(data),
        "split_dataset_ratio": 0,
        "dataset_shuffle": False,
        "train_dataloader_shuffle": False,
        "gradient_checkpointing": False,  # on by default: less memory, slower
        "callbacks": "clock",
    }
    sft_main([text for key, value in settings.items() for text in (f"--{key}", str(value))])
    return clock.losses, settings


def line(row: common.Row, system: str) -> dict:
    turns = [("system", system), ("user", f"<image>{row.prompt}"), ("assistant", row.answer)]
    return {"messages": [{"role": role, "content": text} for role, text in turns], "images": [row.image]}


if __name__ == "__main__":
    common.run("ms_swift", __doc__, ("swift.pipelines",), train, ("ms-swift", "qwen-vl-utils"))
