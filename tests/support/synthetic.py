"""Synthetic predictions with known true effects, for tests of scoring, statistics, claims and figures.

Nothing here is a result. A regime sees a detail of `d` native pixels, shown at scale `s`, with probability
`guess + (1 - guess - lapse) * logistic(slope * log2(d * s / acuity_px[regime]))`; away from the resolution it
was trained at it loses `mismatch_loss` (logit units) per octave. Coarse questions depend on neither.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

REGIMES = ("native", "fixed-84", "mixed")
RUNGS = ("fixed-56", "fixed-84", "fixed-112", "fixed-168", "fixed-224", "native")
ARMS = ("down_up-84", "equal_flops-84")  # regimes that take native's gain over fixed-84 apart
CONTROLS = ("down_up-84", "blind", "shuffled")
NATIVE_CAP = 448
CELL_LINES = ("A-431", "HeLa", "U-2 OS")
LOCALIZATIONS = ("cytosol", "mitochondria", "nucleoplasm", "plasma membrane")
GRADES = ("low", "medium", "high")
FAMILIES = {"radiology": ("x-ray", "chest"), "pathology": ("light microscopy", "breast"),
            "subcellular": ("fluorescence", "cell"), "cytology": ("light microscopy", "cervix")}
# (family, question id, task, kind, chance, fine)
QUESTIONS = (
    ("radiology", "nodule", "nodule", "closed", 0.5, True),
    ("radiology", "calc", "calcification", "closed", 0.5, True),
    ("radiology", "calc_where", "calcification", "choice", 0.25, True),
    ("radiology", "organ", "anatomy", "open", 0.0, False),
    ("radiology", "side", "side", "closed", 0.5, False),
    ("pathology", "mitosis", "mitosis", "choice", 0.25, True),
    ("pathology", "mitosis_any", "mitosis", "closed", 0.5, True),
    ("pathology", "stain", "stain", "choice", 0.25, False),
    ("subcellular", "describe", "localization", "description", 0.0, True),
    ("subcellular", "colour", "colour", "closed", 0.5, False),
    ("cytology", "ratio", "nc_ratio", "class", 1 / 3, True),
    ("cytology", "crowded", "crowding", "closed", 0.5, False),
)


@dataclass(frozen=True)
class Effects:
    """The true effects in `predictions`. Units: pixels as shown, logits, shares."""

    acuity_px: dict = field(default_factory=lambda: {"native": 2.5, "mixed": 2.6})  # other regimes: 3.5
    arms: dict = field(default_factory=dict)  # added to the logit of a regime's fine questions
    slope: float = 1.6
    lapse: float = 0.04
    mismatch_loss: float = 0.5
    coarse: float = 0.9
    image_sd: float = 0.8
    seed_sd: float = 0.15


def side_of(policy: str) -> float:
    """The side of the pixel budget of a policy label: 84 for "fixed-84", the native cap for every other."""
    found = re.fullmatch(r"(?:fixed|square|pad|equal_flops)-(\d+)", policy)
    return float(found[1]) if found else float(NATIVE_CAP)


def predictions(n_images: int = 80, seeds: int = 3, regimes=REGIMES, rungs=RUNGS, controls=CONTROLS,
                effects: Effects = Effects(), seed: int = 0) -> pd.DataFrame:  # noqa: B008 (frozen)
    """The rows of predictions.parquet: n_images test images x 2 to 5 questions x regimes x seeds x rungs.

    The controls are answered by the native regime's models only, and a down_up regime has its own view besides.
    """
    rng = np.random.default_rng(seed)
    items = _items(n_images, rng)
    cells = [(regime, rung, "none") for regime in regimes for rung in rungs]
    if "native" in regimes:
        cells += [("native", control, control.split("-")[0]) for control in controls]
    cells += [(regime, regime, "down_up") for regime in regimes if regime.startswith("down_up")]
    image_effect = pd.Series(rng.normal(0, effects.image_sd, n_images), items["image_id"].unique())
    items["image_effect"] = items["image_id"].map(image_effect)
    frames = []
    for s in range(seeds):
        shift = {regime: rng.normal(0, effects.seed_sd) for regime in regimes}
        frames += [_cell(items, regime, rung, control, s, shift[regime], effects, rng)
                   for regime, rung, control in cells]
    frame = pd.concat(frames, ignore_index=True)
    return frame.drop(columns=["image_effect", "chance", "wrong"])


def _items(n_images: int, rng) -> pd.DataFrame:
    """One row per question: the image's size and tags, the reference answer and one wrong answer."""
    rows = []
    families = list(FAMILIES)
    for i in range(n_images):
        family = families[i % len(families)]
        height, width = (int(v) for v in rng.integers(140, NATIVE_CAP + 1, 2))
        name = f"synthetic/{i:04d}"
        image = dict(dataset="synthetic", split="test", image_id=name, group=name, family=family,
                     modality=FAMILIES[family][0], anatomy=FAMILIES[family][1],
                     height=height, width=width, render=True)
        rows += [image | _question(q, rng) for q in QUESTIONS if q[0] == family]
    return pd.DataFrame(rows)


def _question(question, rng) -> dict:
    _, name, task, kind, chance, fine = question
    detail = float(np.exp2(rng.uniform(1, 5))) if fine else np.nan
    row = dict(question_id=name, task=task, kind=kind, chance=chance, options=[], cell_line=None,
               localizations=[], detail_px=detail, prompt=f"{name}?")
    return row | _ANSWERS[kind](rng)


def _closed(rng) -> dict:
    answer, wrong = rng.permutation(["yes", "no"])
    return dict(answer=str(answer), wrong=str(wrong))


def _choice(rng) -> dict:
    answer, wrong = rng.permutation(list("ABCD"))[:2]
    return dict(answer=str(answer), wrong=str(wrong), options=["left", "right", "upper", "lower"])


def _open(rng) -> dict:
    answer, wrong = rng.permutation(["left lung", "right kidney", "liver"])[:2]
    return dict(answer=str(answer), wrong=str(wrong))


def _class(rng) -> dict:
    answer, wrong = rng.permutation(list(GRADES))[:2]
    return dict(answer=str(answer), wrong=str(wrong))


def _description(rng) -> dict:
    lines = rng.permutation(list(CELL_LINES))[:2]
    places = rng.permutation(list(LOCALIZATIONS))
    return dict(answer=f"{lines[0]} cells; the protein is in the {places[0]}.", cell_line=str(lines[0]),
                localizations=[str(places[0])], wrong=f"{lines[1]} cells; the protein is in the {places[1]}.")


_ANSWERS = {"closed": _closed, "choice": _choice, "open": _open, "class": _class, "description": _description}


def _cell(items: pd.DataFrame, regime, rung, control, s, shift, effects, rng) -> pd.DataFrame:
    """The rows of one model (regime, seed s) at one inference policy."""
    frame = items.copy()
    area = np.minimum(frame["height"] * frame["width"], side_of(rung) ** 2)
    scale = np.sqrt(area / (frame["height"] * frame["width"]))
    left = _left(frame, scale, control)
    correct = rng.random(len(frame)) < _probability(frame, scale, regime, rung, control, shift, effects)
    frame["raw_text"] = np.where(correct, frame["answer"], frame["wrong"])
    return frame.assign(
        study="synthetic", run_id=f"{regime}-{s}", model="synthetic", model_revision="0", regime=regime,
        seed=s, inference=rung, control=control, mismatch=rung != regime,
        budget_pixels=int(side_of(rung) ** 2),
        shown_height=(frame["height"] * scale).round().astype(int), scale=scale, interpolation="bicubic",
        shown_width=(frame["width"] * scale).round().astype(int),
        detail_height=(frame["height"] * left).round().astype(int),
        detail_width=(frame["width"] * left).round().astype(int),
        visual_tokens=np.maximum(1, area // 28**2).astype(int) * (control != "blind"))


def _left(frame: pd.DataFrame, scale: pd.Series, control: str) -> pd.Series:
    """The scale at which the detail of each image is left."""
    return np.sqrt(np.minimum(1, 84**2 / (frame["height"] * frame["width"]))) if control == "down_up" else scale


def _probability(frame, scale, regime, rung, control, shift, effects) -> np.ndarray:
    """The chance that each question is answered correctly."""
    if control in ("blind", "shuffled"):
        return frame["chance"].to_numpy()
    scale = _left(frame, scale, control)
    # A regime trained at several resolutions has no mismatch.
    several = regime in ("mixed", "add-84", "curriculum")
    octaves = 0 if several else abs(np.log2(side_of(rung) / side_of(regime)))
    noise = frame["image_effect"] + shift - effects.mismatch_loss * octaves
    noise = noise + np.where(frame["detail_px"].isna(), 0.0, effects.arms.get(regime, 0.0))
    detail = effects.slope * np.log2(frame["detail_px"] * scale / effects.acuity_px.get(regime, 3.5))
    coarse = np.log(effects.coarse / (1 - effects.coarse))
    seen = 1 / (1 + np.exp(-(np.where(frame["detail_px"].isna(), coarse, detail) + noise)))
    return (frame["chance"] + (1 - frame["chance"] - effects.lapse) * seen).to_numpy()


def training(regimes=REGIMES, seeds: int = 3, steps: int = 20, seed: int = 0) -> pd.DataFrame:
    """training.parquet as the contract has it; add-84 costs 5 % more than native, fixed-84 a tenth, arms as much."""
    rng = np.random.default_rng(seed)
    cost = {"native": 1.0, "add-84": 1.05, "mixed": 0.5, "curriculum": 0.6} | dict.fromkeys(ARMS, 1.0)
    rows = []
    for regime in regimes:
        for s in range(seeds):
            steps_done = np.arange(1, steps + 1)
            loss = 2 * np.exp(-steps_done / 8) + 0.3 + rng.normal(0, 0.03, steps)
            tokens = steps_done * 1e4 * cost.get(regime, 0.1)
            rows.append(pd.DataFrame(dict(
                run_id=f"{regime}-{s}", regime=regime, seed=s, step=steps_done, images_seen=steps_done * 16,
                loss=loss, val_loss=np.where(steps_done % 5 == 0, loss + 0.1, np.nan),
                visual_tokens=tokens.astype(int), seconds=tokens / 5e3, flops=tokens * 1e9)))
    return pd.concat(rows, ignore_index=True)


def costs(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """costs.parquet of these scores: operations rise with the visual tokens, seconds with the operations."""
    keys = ["model", "regime", "seed", "inference", "control", "dataset", "image_id", "question_id", "visual_tokens"]
    texts = {name: str for name in keys if name not in ("seed", "visual_tokens")}
    rows = scores[keys].reset_index(drop=True).astype(texts)
    flops = 1e7 * (30 + rows["visual_tokens"])
    prefill = flops / 1e10 * np.random.default_rng(seed).uniform(0.9, 1.1, len(rows))
    return rows.assign(prompt_tokens=30.0 + rows["visual_tokens"], answer_tokens=3.0, flops=flops + 3e7,
                       prefill_seconds=prefill, decode_seconds=0.003, seconds=prefill + 0.003, memory_mb=700.0)
