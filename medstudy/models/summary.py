"""The model before training: check that it loads and belongs to its family, and record what it sees at every rung."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from medstudy import models
from medstudy.models.family import Family
from medstudy.params import Study
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Control, Training
from medstudy.resolution.sizes import Size
from medstudy.utils import redact

SIZES = tuple(Size(side, side) for side in (224, 448, 1024, 2048))


def examine(study: Study, folder: Path) -> pd.DataFrame:
    """Load the study's model; write model.json and tokens.parquet, and return the latter.

    One row for each rung of the ladder and square image: inference, native_side, shown_height, shown_width (pixels),
    and visual_tokens. Raises ModelError if the model cannot be loaded or belongs to another family.
    """
    family = models.load(study.model, shown=[rung.label for rung in study.inference])
    about = {
        "id": redact.hub_id(study.model.id) or "a folder",
        "revision": family.revision,
        "family": study.model.family,
        "dtype": study.model.dtype,
        "attention": family.attention.name,
        "weights": weights(family),
    }
    (folder / "model.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    rungs = [rung for rung in study.inference if "um_per_px" not in rung.reads]  # which no square of pixels states
    table = pd.DataFrame([_row(family, rung, size) for rung in rungs for size in SIZES])
    table.to_parquet(folder / "tokens.parquet")
    return table


def weights(family: Family) -> dict[str, int]:
    """Numbers of parameters by part: tower, merger, language; tied ones once."""
    counts = {"tower": 0, "merger": 0, "language": 0}
    for name, parameter in family.model.named_parameters():
        counts[family.part(name)] += parameter.numel()
    return counts


def _row(family: Family, rung: Training | Control, native: Size) -> dict[str, str | int]:
    shown = plan(rung, native, family.geometry)[0]
    return {
        "inference": rung.label,
        "native_side": native.height,
        "shown_height": shown.size.height,
        "shown_width": shown.size.width,
        "visual_tokens": shown.visual_tokens,
    }
