"""LoRA (https://arxiv.org/abs/2106.09685) by peft: small matrices beside the language model's, all else frozen."""

from __future__ import annotations

from pathlib import Path

from medstudy.params import Lora

CONFIG = "adapter_config.json"


def add(family, options: Lora):
    """Put adapters into the family's model, in place, and freeze its rest; returns the PeftModel that saves them."""
    from peft import LoraConfig, get_peft_model  # slow to import, and few runs need it

    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        target_modules=rf".*language_model.*\.({'|'.join(options.targets)})",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(family.model, config)


def merged(model, folder: Path):
    """The model with the adapters of a folder in its weights."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, folder).merge_and_unload()
