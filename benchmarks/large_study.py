"""A study of any number of prediction rows, as if it had been run: what the reporting stage reads, without a model.

Two data sets, five regimes and the base model, five seeds, six rungs and four controls. Nothing here is a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from medstudy import params
from medstudy.data import arrow_store, leakage
from medstudy.data.example import GREEDY, LETTERS, Example, Question
from medstudy.params import Study
from medstudy.runs import plan

PARAMS = """
study: large
datasets: [{name: phantom, train: 400, val: 24, test: 120, seed: 2026}, {name: atlas}]
model: {id: base, family: qwen2_vl, dtype: float32}
regimes:
  - {policy: native, max_pixels: 200704}
  - {policy: fixed, side: 84}
  - {policy: fixed, side: 168}
  - {policy: mixed, choices: [{policy: fixed, side: 84}, {policy: native, max_pixels: 200704}]}
  - {policy: add, native: {max_pixels: 200704}, variants: [{side: 84}]}
seeds: [0, 1, 2, 3, 4]
inference:
  - {policy: fixed, side: 56}
  - {policy: fixed, side: 84}
  - {policy: fixed, side: 112}
  - {policy: fixed, side: 168}
  - {policy: fixed, side: 224}
  - {policy: native, max_pixels: 200704}
controls:
  of: native
  views:
    - {policy: down_up, side: 84, native: {max_pixels: 200704}}
    - {policy: down_up, side: 168, native: {max_pixels: 200704}}
    - {policy: blind}
    - {policy: shuffled, native: {max_pixels: 200704}}
low: fixed-84
bounds: null
training: {epochs: 3, images_per_step: 3, learning_rate: 0.004, validations: 4}
evaluation: {max_new_tokens: 40}
intervals: {confidence: 0.95, resamples: 2000, seed: 0}
"""
FAMILIES = {"radiology": ("x-ray", "chest"), "pathology": ("light microscopy", "breast"),
            "subcellular": ("fluorescence microscopy", "cell"), "cytology": ("light microscopy", "cervix"),
            "retina": ("fundus photography", "eye")}
# of every image of a family: (task, kind, whether it depends on a fine detail)
TASKS = {
    "radiology": (("nodule", "closed", True), ("position", "choice", True), ("count", "open", True),
                  ("side", "closed", False), ("anatomy", "choice", False)),
    "pathology": (("mitosis", "closed", True), ("pattern", "choice", True), ("stain", "choice", False),
                  ("finding", "open", False)),
    "subcellular": (("description", "description", True), ("granules", "choice", True), ("colour", "closed", False)),
    "cytology": (("ratio", "class", True), ("nucleus", "choice", True), ("crowding", "closed", False)),
    "retina": (("lesion", "closed", True), ("lesions", "open", True), ("quadrant", "choice", True),
               ("eye", "class", False)),
}
OPEN = ("the left upper lobe of the lung", "three", "two nodules", "liver and spleen", "a dense irregular cluster")
CLASSES = {"ratio": ("low", "medium", "high"), "eye": ("left", "right")}
OPTIONS = ("left upper quadrant", "right upper quadrant", "left lower quadrant", "right lower quadrant")
LINES, PLACES = ("A-431", "HeLa", "U-2 OS"), ("cytosol", "mitochondria", "nucleoplasm", "plasma membrane")
WORDS = "The image shows a section in which the structure asked about is seen near the border of the field".split()
CHANCE = {"closed": 0.5, "choice": 0.25, "class": 0.4, "open": 0.0, "description": 0.0}
ANSWERED = 176  # times that a question is: 5 regimes x 5 seeds x 6 rungs, 4 controls x 5 seeds, 6 rungs of the base
STEPS = 2000
SIDE = 28  # of a visual token, px


def make(folder: Path, rows: int) -> Study:
    """Write the runs of every job up to evaluation under `folder`, with about `rows` predictions in all."""
    (folder / "large.yaml").write_text(PARAMS, encoding="utf-8")
    study = params.load(folder / "large.yaml").model_copy(update={"root": folder})
    rng = np.random.default_rng(0)
    questions = max(rows // ANSWERED, 100)
    tables = []
    for job in _jobs(study, "data"):
        name = job.parameters["data"]["name"]
        share = 0.7 if name == "phantom" else 0.3
        tables.append(_data(job.dir, name, int(questions * share), rng))
    asked = pd.concat([table[table["split"] == "test"] for table in tables], ignore_index=True)
    difficulty = rng.normal(size=asked["image_id"].nunique())[pd.factorize(asked["image_id"])[0]]
    for job in _jobs(study, "leakage"):
        none = pd.DataFrame(columns=leakage.COLUMNS)
        leakage.overview(pd.concat(tables), none).to_parquet(job.dir / "leaks.parquet")
    for job in _jobs(study, "train"):
        _training(job, rng).to_parquet(job.dir / "training.parquet")
    for job in _jobs(study, "evaluate"):
        predictions(asked, difficulty, job, study, rng).to_parquet(job.dir / "predictions.parquet")
    return study


def _jobs(study: Study, stage: str) -> Iterator[plan.Job]:
    """The jobs of a stage; each is complete when its caller has filled its folder."""
    for job in plan.plan(study):
        if job.stage == stage:
            job.dir.mkdir(parents=True)
            yield job
            complete(job)


def complete(job: plan.Job) -> None:
    """A record as short as one can be."""
    job.record.write_text('{"seconds": 0}', encoding="utf-8")


def _data(folder: Path, name: str, questions: int, rng) -> pd.DataFrame:
    """The splits of a data set, with about this many test questions; returns the questions of all."""
    each = np.mean([len(tasks) for tasks in TASKS.values()])
    tables = []
    for split, share in (("train", 2), ("val", 0.1), ("test", 1)):
        examples = (_example(name, split, place, rng) for place in range(round(share * questions / each)))
        tables.append(arrow_store.write(examples, folder / f"{split}.arrow"))
    table = pd.concat(tables, ignore_index=True)
    table.to_parquet(folder / "questions.parquet")
    return table


def _example(dataset: str, split: str, place: int, rng) -> Example:
    family = list(FAMILIES)[place % len(FAMILIES)]
    height, width = (int(side) for side in rng.integers(140, 448, 2))
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    name = f"{dataset}-2026-{split}-{family}-{place:05d}"
    group = name if dataset == "phantom" else f"{dataset}-{split}-{family}-{place // 10:04d}"
    modality, anatomy = FAMILIES[family]
    questions = tuple(_question(task, kind, fine, place, rng) for task, kind, fine in TASKS[family])
    return Example(name, image, questions, dataset, split, group, family, modality, anatomy, render=place % 5 > 0,
                   source=f"{dataset} 1", license="CC0-1.0")


def _question(task: str, kind: str, fine: bool, place: int, rng) -> Question:
    detail = float(np.exp2(rng.uniform(0.5, 5)).round(2)) if fine else None
    more = {}
    if kind == "closed":
        answer = str(rng.choice(["yes", "no"]))
    elif kind == "choice":
        options = tuple(map(str, rng.permutation(OPTIONS)))
        answer, more = str(rng.choice(list(LETTERS[:4]))), {"options": options, "set_id": f"{task}-{place // 10}"}
    elif kind == "class":
        answer = str(rng.choice(CLASSES[task]))
    elif kind == "open":
        answer = str(rng.choice(OPEN))
    else:
        line, places = str(rng.choice(LINES)), tuple(map(str, rng.choice(PLACES, 2, replace=False)))
        answer = f"{line} cells with a stain of the {' and the '.join(places)}."
        more = {"cell_line": line, "localizations": places}
    return Question(task, f"What does the image show of the {task}?", answer, kind, task, detail_px=detail, **more)


def _training(job: plan.Job, rng) -> pd.DataFrame:
    step = np.arange(STEPS)
    cost = {"fixed-84": 0.2, "fixed-168": 0.5, "mixed": 0.7, "add-84": 1.2}.get(job.parameters["label"], 1.0)
    validated = np.isin(step, np.linspace(STEPS / 4, STEPS - 1, 4).round())
    loss = 2.5 * np.exp(-step / 400) + 0.4 + rng.normal(0, 0.05, STEPS)
    return pd.DataFrame({
        "step": step, "images_seen": 3 * (step + 1), "loss": loss, "val_loss": np.where(validated, loss, np.nan),
        "visual_tokens": (360 * cost * (step + 1)).astype(int), "seconds": 0.2 * cost * (step + 1),
        "flops": 1e10 * cost * (step + 1), "run_id": job.dir.name, "regime": job.parameters["label"],
        "seed": job.parameters["seed"],
    })


def predictions(asked: pd.DataFrame, difficulty: np.ndarray, job: plan.Job, study: Study, rng) -> pd.DataFrame:
    """The rows of one evaluation: every question (with its image's difficulty, logits) at every rung and control."""
    regime, seed = job.parameters["regime"], job.parameters["seed"]
    views = [(rung, "none") for rung in study.inference]
    views += [(view, view.policy) for view in study.controls.views if regime == study.controlled]
    shift = rng.normal(0, 0.15)
    parts = [_shown(asked, policy, control, difficulty + shift, regime, rng) for policy, control in views]
    about = {"study": study.study, "run_id": job.dir.name, "model": "base", "regime": regime, "seed": seed,
             "model_revision": f"sha256:{job.identity[:16]}"}
    table = pd.concat(parts, ignore_index=True).assign(**about)
    return table.assign(mismatch=table["inference"] != regime)


def _shown(asked: pd.DataFrame, policy, control: str, ease: np.ndarray, regime: str, rng) -> pd.DataFrame:
    pixels = asked["height"] * asked["width"]
    scale = 1.0 if control in ("down_up", "blind", "shuffled") else np.sqrt(np.minimum(1, policy.budget / pixels))
    height, width = (np.maximum(1, np.round(asked[side] * scale / SIDE)).astype(int) * SIDE
                     for side in ("height", "width"))
    tokens = height * width // SIDE**2
    finer = np.log2(asked["detail_px"].fillna(32) * scale / (2.5 if regime == "native" else 3.5))
    seen = 0.95 / (1 + np.exp(-1.6 * finer - ease)) if control in ("none", "down_up") else 0.0
    chance = asked["kind"].map(CHANCE)
    right = rng.random(len(asked)) < chance + (1 - chance) * seen
    lists = {name: asked[name].to_numpy() for name in ("tags", "options", "localizations")}
    kept = ["dataset", "split", "image_id", "group", "family", "modality", "anatomy", "question_id", "task", "kind",
            "set_id", "answer", "cell_line", "detail_px", "height", "width", "render"]
    return asked[kept].assign(
        inference=policy.label, control=control, budget_pixels=policy.budget, shown_height=height, shown_width=width,
        visual_tokens=tokens if control != "blind" else 0, detail_height=height, detail_width=width,
        context_sizes=[[]] * len(asked), coordinates="", frame=[[]] * len(asked), thinking_tokens=0.0,
        decoding=GREEDY, scale=scale, interpolation="bicubic",
        prompt=PROMPT + asked["question"], raw_text=_texts(asked, right, rng),
        option_log_likelihoods=[[]] * len(asked), **lists,
    )


PROMPT = ("<|im_start|>system\nYou are a biomedical expert.<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|>"
          "<|vision_end|>Answer with a word or a short phrase, or a letter where options are given. ")


def _texts(asked: pd.DataFrame, right: np.ndarray, rng) -> list[str]:
    """What the models say: the reference, or that of another question of the kind; of descriptions a sentence more."""
    wrong = asked.groupby("kind")["answer"].transform(lambda answers: answers.to_numpy()[rng.permutation(len(answers))])
    texts = np.where(right, asked["answer"], wrong)
    long = asked["kind"].isin(["description", "open"]).to_numpy()
    picks = rng.integers(0, len(WORDS), (len(asked), 8))
    return [f"{text} {' '.join(WORDS[i] for i in pick)}" if more else text
            for text, more, pick in zip(texts, long, picks, strict=True)]
