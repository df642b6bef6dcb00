"""How a study trains, decodes, controls, and computes intervals: one block of a params file each."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from medstudy.data import leakage
from medstudy.params.strict import Strict
from medstudy.resolution.policies import Control


class Lora(Strict):
    """Low-rank adapters for the language model's matrices of these names; nothing else is trained."""

    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Optimisation(Strict):
    """How each regime is trained: all in the same way, so that resolution is the only difference."""

    epochs: int = Field(gt=0, le=100_000)
    optimizer: Literal["adamw", "muon"] = "adamw"
    lora: Lora | None = None  # null: full fine-tuning
    freeze_vision_tower: bool = False  # train only the merger and the language model
    cache_features: bool = True  # keep the features of a frozen vision tower on disk
    tokens_per_pass: PositiveInt = 8192  # at most, in a forward pass: memory does not depend on the policy
    images_per_step: PositiveInt = 8
    learning_rate: PositiveFloat
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)  # share of all steps
    clip: PositiveFloat = 1.0  # gradient norm
    processes: PositiveInt = 1  # for one training, one per device (on a CPU, per core); results do not depend on it
    sharding: Literal["ddp", "fsdp"] = "ddp"  # each process holds all weights, or a share of weights and states
    gradient_checkpointing: bool = False  # recompute activations in the backward pass: less memory, 4/3 of the time
    compile_layers: bool = False  # torch.compile every layer: slow first steps, then fewer and larger kernels
    validations: PositiveInt = 8  # evenly spaced, on the val split, with the regime's own policy
    checkpoint_seconds: PositiveInt = 60

    @model_validator(mode="after")
    def _shares(self) -> Optimisation:
        if self.sharding == "fsdp" and self.processes == 1:
            raise ValueError("sharding: fsdp divides weights among processes, so processes must be at least 2, got 1")
        if self.sharding == "fsdp" and self.optimizer == "muon":
            raise ValueError(
                "optimizer: muon needs whole matrices, but with sharding: fsdp a process has only a share of each; use "
                "adamw, or sharding: ddp"
            )
        if self.compile_layers and self.gradient_checkpointing:
            raise ValueError(
                "compile_layers has no effect on layers that gradient_checkpointing recomputes: set one to false"
            )
        return self

    @property
    def keeps_features(self) -> bool:
        """Whether the vision tower is frozen and its features are kept on disk."""
        return self.cache_features and (self.freeze_vision_tower or self.lora is not None)


class Author(Strict):
    """How the paper's first author decodes: by sampling (`medstudy.evaluation.sampling`), besides greedy answers."""

    temperature: PositiveFloat = 0.2
    max_new_tokens: PositiveInt = 128


class Decoding(Strict):
    """Greedy generation, optionally also the author's. All figures and claims use the greedy answers."""

    max_new_tokens: PositiveInt = 128
    tokens_per_pass: PositiveInt = 8192  # at most, in a forward pass, into which images and questions are packed
    option_likelihoods: bool = False  # also record the log-likelihood of each option of a choice
    engine: Literal["own", "vllm"] = "own"  # what runs weights that are here: `medstudy.evaluation.server.vllm_engine`
    engine_options: tuple[str, ...] = ()  # of `vllm serve`, such as --max-model-len=4096
    author: Author | None = None  # also answer at each rung as the paper's first author does; null: greedy only

    @model_validator(mode="after")
    def _options_of_an_engine(self) -> Decoding:
        if self.engine_options and self.engine == "own":
            raise ValueError("engine_options are those of `engine: vllm`: remove them, or set engine")
        return self


class Controls(Strict):
    """Views that show where an effect comes from. They are evaluated for the models of one regime, `of`."""

    of: str | None = None  # a regime, or base; null: native, and base in a study without regimes
    views: tuple[Control, ...] = ()


class Allowed(Strict):
    """A leak that a study admits. All figures, tables and claims then state it with the reason."""

    evaluated: str  # the data set whose test or val images are also elsewhere
    trained: str | None = None  # the data set that has them in an earlier split (train, val); null: the same data set
    reason: str = Field(min_length=1)


class Leakage(Strict):
    """When two images count as the same (`medstudy.data.leakage.find`), and which leaks do not stop the study."""

    distance: NonNegativeInt = leakage.DISTANCE
    likeness: float = Field(default=leakage.LIKENESS, gt=0, le=1)
    allow: tuple[Allowed, ...] = ()


class Intervals(Strict):
    """How images and seeds are resampled for confidence intervals."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: PositiveInt = 2000
    seed: NonNegativeInt = 0
