"""One model in memory for every round of a GPU's stages: built once on its device, put back to its start each time."""

from __future__ import annotations

import argparse
import gc
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from transformers import Qwen2VLConfig

from benchmarks import ours
from benchmarks.peers import common, generate
from medstudy import models
from medstudy.engine import attention
from medstudy.models.family import Family
from medstudy.models.prompts import SYSTEM
from medstudy.params import Model
from medstudy.pretraining import tiny_qwen2_vl

QWEN2_VL_2B = {
    "text_config": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision_config": {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16, "mlp_ratio": 4},
}
TINY = {"text_config": {"num_hidden_layers": 2}, "vision_config": {"depth": 2}}  # for a rehearsal without a GPU
SIZES = {"2b": QWEN2_VL_2B, "tiny": TINY}


class Resident:
    """A Qwen2-VL of given sizes with random weights, in bfloat16 on a GPU, and the rounds that use it.

    Weights are drawn on the device, from one seed. Before every round they are copied back, gradients and optimizers of
    the round before are gone, and the peak of memory starts again.
    """

    def __init__(self, device: str, sizes: dict, scratch: Path, workers: int):
        self.device, self.sizes, self.scratch, self.workers = device, sizes, scratch, workers
        self.dtype = "bfloat16" if device == "cuda" else "float32"  # a CPU may take an hour in bfloat16

    @cached_property
    def folder(self) -> Path:
        """Configuration, tokenizer and processor; no weights."""
        words = tiny_qwen2_vl.tokenizer(["Is there a nodule in region of this image? yes no"] * 20, 400)
        settings = tiny_qwen2_vl.config(words, width=64, layers=1, vision_width=48, vision_layers=1).to_dict()
        for part, values in self.sizes.items():
            settings[part] = {name: old for name, old in settings[part].items() if name != "layer_types"} | values
        folder = self.scratch / "model"
        tiny_qwen2_vl.processor(words).save_pretrained(folder)
        Qwen2VLConfig(**settings).save_pretrained(folder)
        return folder

    @cached_property
    def family(self) -> Family:
        torch.manual_seed(0)
        family = models.sketch(Model(id=str(self.folder), dtype=self.dtype), self.device)
        words = family.processor.tokenizer
        ends = words.convert_tokens_to_ids(family.turn_end)
        family.model.generation_config.update(eos_token_id=ends, pad_token_id=words.pad_token_id, do_sample=False)
        start = {name: part.detach().cpu().clone() for name, part in family.model.named_parameters()}
        pinned = self.device == "cuda"  # copied back in a fifth of the time
        self.start = {name: part.pin_memory() if pinned else part for name, part in start.items()}
        return family

    def fresh(self, kernel: str | None = None) -> Family:
        """The family as it was built, with that kernel."""
        family = self.family
        with torch.no_grad():
            for name, parameter in family.model.named_parameters():
                parameter.grad = None
                parameter.requires_grad_(True)
                if parameter.dtype != self.start[name].dtype:  # a round in mixed precision was before
                    parameter.data = parameter.data.to(self.start[name].dtype)
                parameter.copy_(self.start[name])
        for module in family.model.modules():
            module._compiled_call_impl = None  # what `compile` put there
        getattr(family.model, "activation_checkpointing_disable", family.model.gradient_checkpointing_disable)()
        family.model.eval()
        family.model.config.use_cache = True
        type(family).prepare(family.model)
        choice = attention.KernelChoice(kernel, "the benchmark asks for it") if kernel else family.attention
        attention.install(family.model, choice)
        AcceleratorState._reset_state(reset_partial_state=True)  # a Trainer and ours each make their own
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        torch.manual_seed(0)
        return replace(family, attention=choice)

    def plain(self) -> torch.nn.Module:
        """The model as transformers alone would have it."""
        model = self.fresh().model
        model.model.visual.patch_embed.__dict__.pop("forward", None)  # what `prepare` put there
        model.set_attn_implementation("sdpa")
        model.model.rope_deltas = None
        return model

    def options(self, data: Path, **given: object) -> argparse.Namespace:
        """By the command line of all sides, so that its defaults and checks hold here too."""
        given = {
            "model": self.folder, "data": data, "system": SYSTEM, "device": self.device, "dtype": self.dtype,
            "threads": 4 if self.workers else 1, "workers": self.workers, "learning_rate": 1e-6,
            "out": self.scratch / "unused.json",
        } | given
        command = []
        for key, value in given.items():
            flag = "--" + key.replace("_", "-")
            command += [flag] if value is True else [] if value in (None, False) else [flag, str(value)]
        options = common.arguments(None, command)
        torch.set_num_threads(options.threads)
        return options

    def train(self, options: argparse.Namespace) -> dict:
        return self._described(options, ours.train(options, self.fresh(options.kernel)))

    def generate(self, options: argparse.Namespace) -> dict:
        return self._described(options, ours.generate(options, self.fresh(options.kernel)))

    def train_peer(self, train, options: argparse.Namespace, images: int = 1) -> dict:
        """train: a peer's own. Its batch size, if not given, is the fastest with `images` a step: found once, and kept.

        A batch of less than an image's questions is tried only where a step has one image.
        """
        if options.batch_size is None:
            few = replace_options(options, images_per_step=images, steps=common.TRIAL_STEPS)
            questions = common.questions_per_step(common.read(options.data), 1)
            sizes = [size for size in common.batch_sizes(images * questions) if images == 1 or size >= questions]
            options.batch_size, _ = common.fastest(train.__module__, sizes, partial(self._trial, train, few))
        made = common.measured(options, partial(train, model=self.plain()))
        return self._described(options, made)

    def generate_peer(self, options: argparse.Namespace) -> dict:
        return self._described(options, generate.measured(options, self.plain()))

    def _trial(self, train, options: argparse.Namespace, size: int) -> float:
        tried = replace_options(options, batch_size=size)
        return min(common.measured(tried, partial(train, model=self.plain()))["step_seconds"][1:])

    @staticmethod
    def _described(options: argparse.Namespace, made: dict) -> dict:
        return {**common.described(options), **made}


def replace_options(options: argparse.Namespace, **changes: object) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(options), **changes})
