"""LoRA (https://arxiv.org/abs/2106.09685) by peft: small matrices beside the language model's, all else frozen."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.nn import Linear

from medstudy.errors import ParamsError
from medstudy.params import Lora

CONFIG = "adapter_config.json"


def add(family, options: Lora):
    """Put adapters into the family's model, in place, and freeze its rest; returns the PeftModel that saves them.

    Raises ParamsError for a target that the language model does not have.
    """
    from peft import LoraConfig, get_peft_model  # slow to import, and few runs need it

    modules = family.model.named_modules()
    part = family.language_name
    linear = {name.split(".")[-1] for name, one in modules if part in name.split(".") and isinstance(one, Linear)}
    if wrong := [name for name in options.targets if name not in linear]:
        raise ParamsError(
            f"training.lora.targets are matrices of the language model ({', '.join(sorted(linear))}), got "
            f"{', '.join(map(repr, wrong))}."
        )
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        target_modules=rf".*\b{part}\b.*\.({'|'.join(options.targets)})",
        task_type="CAUSAL_LM",
    )
    sketch = family.model.device.type == "meta"
    with _quiet():
        return get_peft_model(family.model, config, low_cpu_mem_usage=sketch)  # a sketch's adapters take no memory too


def base_of(folder: Path) -> str | None:
    """The model that the adapters of a folder are for, as they say it."""
    return json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")


def merged(model, folder: Path):
    """The model with the adapters of a folder in its weights."""
    from peft import PeftModel

    with _quiet():
        return PeftModel.from_pretrained(model, folder).merge_and_unload()


@contextmanager
def _quiet() -> Iterator[None]:
    """peft 0.21 asks models of transformers 5.23 for an attribute that warns: nothing that a user could mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield
