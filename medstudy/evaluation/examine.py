"""The model before training: check that it loads and belongs to its family, and record what it sees at every rung."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from medstudy.data.example import Question
from medstudy.evaluation import kinds
from medstudy.evaluation.answerer import Answerer
from medstudy.params import Study
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Control, Training
from medstudy.resolution.sizes import Size
from medstudy.utils import redact

SIZES = tuple(Size(side, side) for side in (224, 448, 1024, 2048))
QUESTION = Question("stain", "Which stain is used?", "B", "choice", "stain", options=("Giemsa", "Pap"))


def examine(study: Study, folder: Path) -> pd.DataFrame:
    """Open the study's model; write model.json (with a `prompt`) and tokens.parquet, and return the latter.

    One row for each rung of the ladder and square image: inference, native_side, shown_height, shown_width (pixels),
    and visual_tokens. Raises ModelError if the model cannot be loaded or belongs to another family.
    """
    model = kinds.opened(study)
    about = {
        "id": redact.hub_id(study.model.id) or "a folder",
        "revision": model.revision,
        "family": study.model.family,
        "dtype": study.model.dtype,
        **model.about(),
        "prompt": model.prompt(QUESTION),
    }
    (folder / "model.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    table = pd.DataFrame([_row(model, rung, size) for rung in study.inference for size in SIZES])
    table.to_parquet(folder / "tokens.parquet")
    return table


def _row(model: Answerer, rung: Training | Control, native: Size) -> dict[str, str | int]:
    shown = plan(rung, native, model.geometry)[0]
    return {
        "inference": rung.label,
        "native_side": native.height,
        "shown_height": shown.size.height,
        "shown_width": shown.size.width,
        "visual_tokens": shown.visual_tokens,
    }
