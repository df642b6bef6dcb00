"""TRL's SFTTrainer on prompt/completion rows with an image, with its own collator for vision-language models."""

from __future__ import annotations

from benchmarks.peers import common


def train(options, planned, clock, scratch, model=None) -> tuple[list[float], dict]:
    """model: one that is in memory; None loads it from its folder."""
    from datasets import Dataset, Image, List
    from trl import SFTConfig, SFTTrainer

    rows = [
        {
            "prompt": [{"role": "system", "content": options.system}, {"role": "user", "content": row.prompt}],
            "completion": [{"role": "assistant", "content": row.answer}],
            "images": [row.image],
        }
        for row in planned.rows
    ]
    settings = common.training_arguments(options, planned, scratch)
    settings |= {
        "train_sampling_strategy": "sequential",
        "max_length": None,  # the default of 1024 tokens would cut the image's
        "completion_only_loss": True,
        "gradient_checkpointing": False,  # on by default: less memory, slower
        "packing": options.packing,  # refused for images by TRL itself
    }
    trainer = SFTTrainer(
        model=common.load_model(options) if model is None else common.frozen(model, options),
        args=SFTConfig(**settings),
        train_dataset=Dataset.from_list(rows).cast_column("images", List(Image())),
        processing_class=common.load_processor(options.model),
        callbacks=[clock.callback()],
    )
    trainer.train()
    return clock.losses, settings


if __name__ == "__main__":
    common.run("trl_sft", __doc__, ("trl", "datasets"), train, ("trl",))
