"""Trains several bases at once on one GPU within a time limit, on the same images: how the base that ships was chosen.

The stages, losses and optimizers are those of `medstudy.pretraining.pretrain`; but the schedule follows the clock, and
the images come from files that other processes write, so that the bases share them. A step without a new file repeats
an earlier one. Writes NAME.safetensors (float16) and NAME.csv for each base to the folder OUT.

    python benchmarks/base_on_gpu.py OUT --vision 125 --language 145 --base small:96x3 --base medium:144x5
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

AHEAD, KEPT = 300, 300  # steps that are written before the fastest training needs them, and kept after the slowest
WAIT = 90  # seconds that a training may take to load
SWITCH = 8  # seconds before the language stage at which the producers turn to its images


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--role", default="all")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--start", type=float)
    parser.add_argument("--vision", type=float, default=125)
    parser.add_argument("--language", type=float, default=145)
    parser.add_argument("--params", default="params/base-gpu.yaml")
    parser.add_argument("--base", action="append", default=[])
    parser.add_argument("--producers", type=int, default=12)
    parser.add_argument("--number", type=int, default=0)
    return parser.parse_args()


def base_of(given: argparse.Namespace, text: str):
    """(name, Base) of "name:WIDTHxLAYERS"."""
    from medstudy.pretraining import pretrain

    base = pretrain.load(given.params)
    name, _, sizes = text.partition(":")
    width, layers = map(int, sizes.split("x"))
    return name, base.model_copy(update={"vision_width": width, "vision_layers": layers})


def run(given: argparse.Namespace) -> None:
    """Start all processes, and wait for the trainings."""
    given.out.mkdir(parents=True, exist_ok=True)
    work = given.work
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("vision", "language", "progress"):
        (work / folder).mkdir(parents=True)
    start = time.time()
    own = [sys.executable, __file__, str(given.out), "--work", str(work), "--start", str(start),
           "--params", given.params, "--vision", str(given.vision), "--language", str(given.language),
           "--producers", str(given.producers)]
    blind = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    makers = [subprocess.Popen([*own, "--role", "produce", "--number", str(n)], env=blind)
              for n in range(given.producers)]
    trainings = []
    for text in given.base:
        with open(given.out / f"{text.partition(':')[0]}.txt", "w") as stream:
            trainings.append(subprocess.Popen([*own, "--role", "train", "--base", text], stdout=stream, stderr=stream))
    while time.time() < start + WAIT and not all(
            each.poll() is not None or (work / "progress" / f"ready-{text.partition(':')[0]}-0").exists()
            for each, text in zip(trainings, given.base, strict=True)):
        time.sleep(0.1)
    begin = time.time()
    temporary = work / "begin.part"
    temporary.write_text(str(begin))
    os.replace(temporary, work / "begin")
    print(f"the trainings begin after {begin - start:.0f} s", flush=True)
    limit = begin + given.vision + given.language + 35
    while any(each.poll() is None for each in trainings) and time.time() < limit:
        time.sleep(0.5)
        if time.time() > begin + given.vision + 10:
            shutil.rmtree(work / "vision", ignore_errors=True)
        for stage in ("vision", "language"):
            tidy(work, stage, sum(each.poll() is None for each in trainings))
    for each in [*trainings, *makers]:
        if each.poll() is None:
            each.send_signal(signal.SIGKILL)
    shutil.rmtree(work, ignore_errors=True)


def begun(given: argparse.Namespace) -> float:
    """When the trainings began, seconds since 1970; the future until they do."""
    file = given.work / "begin"
    return float(file.read_text()) if file.exists() else time.time() + WAIT


def reached(work: Path, stage: str) -> list[int]:
    """The step that each training has reached."""
    return [int(each.name.rpartition("-")[2]) for each in (work / "progress").glob(f"{stage}-*")]


def tidy(work: Path, stage: str, trainings: int) -> None:
    """Delete the steps that no training needs again."""
    steps = reached(work, stage)
    if not steps or len(steps) < trainings:
        return
    for file in (work / stage).glob("0*"):
        if int(file.name) < min(steps) - KEPT:
            file.unlink(missing_ok=True)


class Pickler(pickle.Pickler):
    """Tensors as arrays: faster to read."""

    def reducer_override(self, value: object):
        import torch

        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, torch.Tensor) else NotImplemented


def store(file: Path, content: object) -> None:
    """Write an object with its arrays side by side, so that they are read without a copy."""
    head, arrays = io.BytesIO(), []
    Pickler(head, 5, buffer_callback=arrays.append).dump(content)
    parts = [each.raw() for each in arrays]
    with open(file, "wb") as stream:
        pickle.dump((head.getvalue(), [len(part) for part in parts]), stream)
        stream.writelines(parts)


def stored(file: Path) -> object:
    """What `store` wrote."""
    import numpy as np

    with open(file, "rb") as stream:
        head, sizes = pickle.load(stream)
        whole = memoryview(np.empty(sum(sizes), np.uint8))
        stream.readinto(whole)
    ends = list(itertools.accumulate(sizes))
    return pickle.loads(head, buffers=[whole[end - size : end] for end, size in zip(ends, sizes, strict=True)])


def produce(given: argparse.Namespace) -> None:
    """Write every P-th step of the vision stage, then of the language stage."""
    import torch

    torch.set_num_threads(1)
    from medstudy import models
    from medstudy.params import Model
    from medstudy.pretraining import pretrain
    from medstudy.pretraining.vision import Scenes

    base = pretrain.load(given.params).model_copy(update={"vision_width": 48, "vision_layers": 1})
    folder = given.work / f"maker{given.number}"
    family = models.load(Model(id=str(pretrain.untrained(base, folder))))
    stage = base.vision
    scenes = Scenes(family, base.seed, 10**6, stage.canvases, stage.tokens)
    write(given, "vision", scenes, given.vision - SWITCH)
    corpus = pretrain.Corpus(family, "train", base.model_copy(update={"images": 10**8}))
    write(given, "language", corpus, given.vision + given.language)


def write(given: argparse.Namespace, name: str, data, seconds: float) -> None:
    """Write steps until `seconds` have passed since the trainings began."""
    step, folder = given.number, given.work / name
    while time.time() < begun(given) + seconds:
        if step > max(reached(given.work, name), default=0) + AHEAD:
            time.sleep(0.02)
            continue
        temporary = folder / f"{step}.part"
        store(temporary, data[step])
        os.replace(temporary, folder / f"{step:07d}")
        step += given.producers


class Feed:
    """The steps of a stage as they are written: a new one if there is one, else one seen before."""

    def __init__(self, folder: Path, first: int = 0):
        self.folder, self.next, self.first, self.fresh, self.random = folder, 0, first, 0, random.Random(0)
        self.pool, self.queue, self.lock = ThreadPoolExecutor(2), [], threading.Lock()

    def __call__(self):
        while len(self.queue) < 3:
            self.queue.append(self.pool.submit(self._guarded))
        content, fresh = self.queue.pop(0).result()
        self.fresh += fresh
        return content

    def _guarded(self):
        with self.lock:
            file, fresh = self._pick()
        return stored(file), fresh

    def _pick(self) -> tuple[Path, bool]:
        file = self.folder / f"{self.next:07d}"
        while not file.exists():
            if self.next > self.first + 100:
                return self.folder / f"{self.random.randrange(max(self.first, self.next - 200), self.next):07d}", False
            time.sleep(0.01)
        self.next += 1
        return file, True


def train(given: argparse.Namespace) -> None:
    """Both stages of one base."""
    import torch

    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")
    from medstudy import models
    from medstudy.params import Model
    from medstudy.pretraining import pretrain, vision
    from medstudy.pretraining.tower import Tower
    from medstudy.training import optimizers

    name, base = base_of(given, given.base[0])
    folder, log = given.work / name, []
    family = models.load(Model(id=str(pretrain.untrained(base, folder / "untrained"))))

    def fit(stage: str, module, loss, options, feed: Feed, until: float) -> None:
        chosen = optimizers.build(module, options)
        rates = [[group["lr"] for group in each.param_groups] for each in chosen]
        began, step, spoken = time.time(), 0, time.time()
        module.train()
        while (now := time.time()) < until:
            done = (now - began) / (until - began)
            factor = min(1.0, (step + 1) / 60) * 0.5 * (1 + torch.cos(torch.tensor(done * torch.pi)).item())
            for each, own in zip(chosen, rates, strict=True):
                for group, rate in zip(each.param_groups, own, strict=True):
                    group["lr"] = rate * factor
            passes = feed()
            questions = sum(each.questions for each in passes)
            total = 0.0
            for each in passes:
                part = loss(each.content) / questions
                part.backward()
                total = total + part.detach()
            torch.nn.utils.clip_grad_norm_([p for p in module.parameters() if p.requires_grad], options.clip)
            for each in chosen:
                each.step()
            module.zero_grad()
            step += 1
            if step % 20 == 0:
                log.append((stage, step, feed.fresh, round(time.time() - given.start, 2), float(total)))
                for old in (given.work / "progress").glob(f"{stage}-{name}-*"):
                    old.unlink(missing_ok=True)
                (given.work / "progress" / f"{stage}-{name}-{feed.next}").touch()
            if time.time() - spoken > 20:
                spoken = time.time()
                print(*log[-1:], flush=True)
                save()
        module.eval()

    def save() -> None:
        from safetensors.torch import save_file

        weights = family.model.state_dict()
        weights.pop("lm_head.weight")  # tied
        save_file({k: v.half().cpu().contiguous() for k, v in weights.items()}, given.out / f"{name}.tmp")
        os.replace(given.out / f"{name}.tmp", given.out / f"{name}.safetensors")
        lines = ["stage,step,fresh,seconds,loss", *(",".join(map(str, row)) for row in log)]
        (given.out / f"{name}.csv").write_text("\n".join(lines) + "\n")

    seer = vision.Seer(family).to(family.model.device)
    (given.work / "progress" / f"ready-{name}-0").touch()
    while not (given.work / "begin").exists():
        time.sleep(0.05)
    given.start = begun(given)
    print("begins", flush=True)
    fit("vision", seer, partial(vision.loss_of, seer), base.vision.training, Feed(given.work / "vision"),
        given.start + given.vision)
    family.model.save_pretrained(folder / "seeing")
    family.processor.save_pretrained(folder / "seeing")
    save()
    family = pretrain.answering(folder / "seeing", base)
    loss = partial(pretrain.loss_of, pretrain.Inputs(family, Tower(family)))
    print("attention", family.model.config.text_config._attn_implementation, flush=True)
    fit("language", family.model, loss, base.training,
        Feed(given.work / "language", base.plain // base.training.images_per_step),
        given.start + given.vision + given.language)
    validation = pretrain.Corpus(family, "val", base)
    with torch.no_grad():
        passes = [each for step in range(len(validation)) for each in validation[step]]
        mean = sum(float(loss(each.content)) for each in passes) / sum(each.questions for each in passes)
    log.append(("validation", 0, 0, round(time.time() - given.start, 2), mean))
    save()
    print("done", log[-1], time.time() - given.start, flush=True)


if __name__ == "__main__":
    given = arguments()
    given.work = given.work or Path(tempfile.gettempdir()) / "base_on_gpu"
    {"all": run, "produce": produce, "train": train}[given.role](given)
