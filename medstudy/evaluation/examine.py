"""The model before training: check that it loads and belongs to its family, and record what it sees at every rung."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from medstudy import paths
from medstudy.data.example import Question
from medstudy.evaluation import kinds
from medstudy.evaluation.answerer import Answerer
from medstudy.models.stamp import policy_of, stamp_of
from medstudy.params import Study
from medstudy.resolution.describe import words
from medstudy.resolution.plan import plan, trained_on
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
    if (stated := training_resolution(study, about.get("trained_side"))) is not None:
        about["trained_on"] = stated
    (folder / "model.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    rungs = [rung for rung in study.inference if "um_per_px" not in rung.reads]  # which no square of pixels states
    table = pd.DataFrame([_row(model, rung, size) for rung in rungs for size in SIZES])
    if study.model.server is not None and study.model.server.factor is None:
        table["visual_tokens"] = float("nan")  # the server knows
    table.to_parquet(folder / "tokens.parquet")
    return table


def training_resolution(study: Study, side: int | None = None) -> dict | None:
    """At which resolution the model was trained: by `model.trained_on`, its checkpoint's stamp or `side`; else None.

    words, source, and `rungs`: the labels of the study's rungs that show images so. What the user states matches the
    rungs of as many pixels. side: of the square images that an encoder was trained on, by its configuration.
    """
    if (given := study.model.trained_on) is not None:
        rungs = [rung.label for rung in study.inference if rung.budget == given.pixels]
        return {"words": given.words, "source": given.source, "rungs": rungs}
    if study.model.server is not None:
        return None
    where = paths.BASE if study.model.id == "base" else study.model.id
    stamp = stamp_of(str(where), study.model.revision) if study.model.abilities.trains else None
    if stamp is None:
        rungs = [rung.label for rung in study.inference if side and rung.budget == side**2]
        return {"words": f"{side}² pixels", "source": "its configuration", "rungs": rungs} if side else None
    policy = policy_of(stamp)
    rungs = [rung.label for rung in study.inference if rung.label in trained_on(policy)]
    return {"words": words(policy), "source": "its stamp", "rungs": rungs}


def _row(model: Answerer, rung: Training | Control, native: Size) -> dict[str, str | int]:
    shown = plan(rung, native, model.geometry)[0]
    return {
        "inference": rung.label,
        "native_side": native.height,
        "shown_height": shown.size.height,
        "shown_width": shown.size.width,
        "visual_tokens": shown.visual_tokens,
    }
