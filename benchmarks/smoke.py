"""Whether everything runs on this device at all, in a minute: kernels, every family, a resume, `doctor`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks import data, ours
from benchmarks.runner import NotRun
from medstudy import models
from medstudy.cli import doctor
from medstudy.engine import attention, batches
from medstudy.engine.image_inputs import ImageInputs
from medstudy.evaluation import in_process
from medstudy.params import Decoding, Model, Optimisation
from medstudy.pretraining import tiny_qwen2_vl
from medstudy.training import checkpoints, loop, setup, train

WORDS = ["Is there a nodule in region of this image? yes no"] * 20
SDPA = ("prefix_sdpa", "prefix_masked")  # what the others are compared with
BITS = 0.02  # by which a loss in bfloat16 may differ from float32's, relative
NEAR = 1e-3  # by which weights of a resumed training may differ on a GPU, whose sums have no fixed order


def tasks(bench) -> dict[str, Callable[[], Iterator[dict]]]:
    from tests.support import families  # the tiny checkpoints: they are here when this runs from the repository

    kernels = {name: partial(kernel, bench, name) for name in attention.FUNCTIONS if name not in SDPA}
    builders = {"qwen2_vl": _standin, **families.BUILD}
    each = {name: partial(family, bench, name, build) for name, build in builders.items()}
    return {**kernels, **each, "resume": partial(resume, bench), "doctor": partial(examine, bench)}


def kernel(bench, name: str) -> Iterator[dict]:
    """Against sdpa, forward and backward, at the heads of the language model and of the tower."""
    device = torch.device(bench.device)
    for part, heads in (("2B's", attention.QWEN2_VL_2B), ("the tower's", attention.QWEN2_VL_TOWER)):
        choice = attention.choose(device, torch.bfloat16, heads, among=(name,))
        if choice.name != name and not choice.why.startswith(f"{name} "):
            raise NotRun(choice.why)
        right = float(choice.name == name)
        yield yes(f"{name} gives sdpa's numbers at {part} heads", right, "sdpa", why=choice.why)


def family(bench, name: str, build: Callable[[list[str], Path], Path]) -> Iterator[dict]:
    """A training step of a tiny checkpoint in bfloat16, and an evaluation of what it saved; its loss and float32's."""
    folder = bench.scratch / "families" / name
    if not folder.is_dir():
        build(WORDS, folder)
    losses = {}
    for dtype in ("float32", "bfloat16"):
        params, scratch = Model(id=str(folder), family=name, dtype=dtype), bench.scratch / f"{name}-{dtype}"
        trained = models.load(params)
        log, _ = _trained(bench, trained, scratch, steps=1)
        losses[dtype] = float(log["loss"].iloc[0])
    checkpoints.save(trained, scratch / "checkpoint", {})
    made, examples = models.load(params, scratch / "checkpoint"), _examples(bench)
    shown = [batches.plan_views(ours.NATIVE, one, made.geometry)[0] for one in examples]
    inputs = ImageInputs(made, "bicubic")
    answers = list(in_process.answers(inputs, examples, examples, shown, Decoding(max_new_tokens=4)))
    off = abs(losses["bfloat16"] - losses["float32"]) / losses["float32"]
    right = float(off <= BITS and len(answers) == len(examples))
    yield yes(f"{name}: a training step and an evaluation in bfloat16", right, "float32", losses=losses,
              kernel=made.attention.name)


def resume(bench) -> Iterator[dict]:
    """A training that is killed after each step's resume point was written, and resumed, against one that is not."""
    folder = bench.scratch / "families" / "qwen2_vl"
    if not folder.is_dir():
        _standin(WORDS, folder)
    weights = []
    for kill in (None, 2):
        scratch = bench.scratch / f"resume-{kill}"
        for stop in (kill, None) if kill else (None,):
            made = models.load(Model(id=str(folder), dtype="bfloat16"))
            try:
                log, _ = _trained(bench, made, scratch, steps=4, stop=stop)
            except KeyboardInterrupt:
                continue
        weights.append(torch.cat([part.detach().double().flatten() for part in made.model.parameters()]))
        assert len(log) == 4
    off = float((weights[0] - weights[1]).norm() / weights[0].norm())
    least = 1.0 if bench.device == "cpu" else 1 - NEAR
    yield {"name": "a resumed training's weights", "unit": "relative difference", "ours": off, "peer": 0.0,
           "peer_name": "not interrupted", "ratio": 1 - off, "goal": least, "floor": least}


def examine(bench) -> Iterator[dict]:
    for package in ("papermill", "snakemake"):
        if importlib.util.find_spec(package) is None:
            raise NotRun(f"doctor reports on {package}, and this interpreter does not have it")
    found = doctor.examine()
    yield yes("doctor", float(bool(found)), "", findings=[list(map(str, one)) for one in found])


def yes(name: str, right: float, peer_name: str, **more: object) -> dict:
    return {"name": name, "unit": "1 is yes", "ours": right, "peer": 1.0, "peer_name": peer_name, "ratio": right,
            "goal": 1.0, "floor": 1.0, **more}


def _standin(texts: list[str], folder: Path) -> Path:
    return tiny_qwen2_vl.build(texts, folder, 400, width=64, layers=2, vision_width=48, vision_layers=2)


def _examples(bench) -> list:
    folder = bench.scratch / "smoke"
    if not folder.is_dir():
        folder.mkdir()
        data.noise(folder, (112, 84), images=2, questions=3)
    return ours.examples(folder / "data.jsonl")


class _Stopped:
    """Steps that end before a given one, as a killed training does."""

    def __init__(self, steps: list, stop: int | None):
        self.steps, self.stop = steps, stop

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, step: int) -> list:
        if step == self.stop:
            raise KeyboardInterrupt
        return self.steps[step]


def _trained(bench, family, scratch: Path, steps: int, stop: int | None = None):
    settings = Optimisation(epochs=1, learning_rate=1e-3, validations=1, images_per_step=2)
    settings = settings.model_copy(update={"checkpoint_seconds": 0})  # a resume point after every step
    setup.prepare(family, settings)
    supply = ImageInputs(family, "bicubic")
    seen = [(one, batches.plan_views(ours.NATIVE, one, family.geometry)[0]) for one in _examples(bench)]
    micros = [batches.micro_batches(supply, seen, settings.tokens_per_pass) for _ in range(steps)]
    loss = partial(train.loss_of, supply)
    return loop.fit(family.model, _Stopped(micros, stop), None, settings, 0, scratch, loss), family
