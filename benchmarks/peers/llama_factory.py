"""LLaMA-Factory's `llamafactory-cli train`, all weights trained. Its packing (neat_packing): --packing."""

from __future__ import annotations

import json

from benchmarks.peers import common


def train(options, planned, clock, scratch) -> tuple[list[float], dict]:
    from llamafactory.train.tuner import run_exp

    (scratch / "rows.json").write_text(json.dumps([line(row, options.system) for row in planned.rows]))
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    described = {
        "file_name": "rows.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {**tags, "system_tag": "system"},
    }
    (scratch / "dataset_info.json").write_text(json.dumps({"rows": described}))
    limits = common.pixel_limits(options.model)
    settings = common.training_arguments(options, planned, scratch)
    settings |= {
        "model_name_or_path": str(options.model.resolve()),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "freeze_vision_tower": False,
        "freeze_multi_modal_projector": False,
        "template": "qwen2_vl",
        "dataset": "rows",
        "dataset_dir": str(scratch),
        "overwrite_cache": True,
        "disable_shuffling": True,
        "cutoff_len": common.pack_length(options, planned) if options.packing else 2**20,  # 2048 would cut long rows
        "image_max_pixels": limits["longest_edge"],
        "image_min_pixels": limits["shortest_edge"],
        "flash_attn": "sdpa",
        "neat_packing": options.packing,
        "disable_gradient_checkpointing": True,  # on by default: less memory, slower
        "pure_bf16": options.dtype == "bfloat16",
        "bf16": False,
    }
    run_exp(args=settings, callbacks=[clock.callback()])
    return clock.losses, settings


def line(row: common.Row, system: str) -> dict:
    turns = [("system", system), ("user", f"<image>{row.prompt}"), ("assistant", row.answer)]
    return {"messages": [{"role": role, "content": text} for role, text in turns], "images": [row.image]}


if __name__ == "__main__":
    common.run("llama_factory", __doc__, ("llamafactory.train.tuner",), train, ("llamafactory", "torchaudio"))
