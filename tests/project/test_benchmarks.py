"""The benchmarks run: at tiny sizes, against the real peers that this environment has."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from benchmarks import __main__ as main
from benchmarks import cpu, data, gpu, gpu_stages, large_study, needs, ours, reporting, reporting_element, runner
from benchmarks.peers import trainer
from benchmarks.resident import SIZES, TINY, Resident
from benchmarks.runner import Side, pair, run
from medstudy import paths
from medstudy.engine import attention, bin_packing
from medstudy.engine.batches import size_of
from medstudy.engine.shared_prefix import row
from medstudy.report.study_data import SCORES
from medstudy.resolution.plan import plan

TRAINER = Side("benchmarks.peers.trainer")
LARGEST = (2996, 3976)  # of a stage's images


@pytest.fixture(scope="module")
def shared(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {"model": tiny_model.id, "data": data.noise(folder, (56, 56), images=2, questions=3), "images_per_step": 1,
            "steps": 3, "batch_size": 3}


@pytest.fixture(scope="module")
def trained(shared):
    """What our side and the plain Trainer measured, each in a process of its own."""
    return {side: run(side, shared, ()) for side in (cpu.TRAIN, TRAINER)}


@pytest.mark.slow
def test_a_pair_does_the_same_work_and_is_compared_by_the_question(shared, trained, monkeypatch):
    monkeypatch.setattr(runner, "run", lambda side, shared, extra: trained[side])
    line = pair("x", cpu.TRAIN, TRAINER, shared, goal=1.0, floor=0.1, rounds=2)
    assert line["ratio"] == pytest.approx(line["peer"] / line["ours"])
    assert line["ours_about"]["questions"] == 2 * 3  # two counted steps of one image
    assert line["peer_about"]["questions_per_step"] == 3
    assert line["ours_about"]["visual_tokens"] == 2 * 4
    assert line["peer_about"]["visual_tokens_encoded_per_step"] == 3 * 4
    assert not main.missed(line) and main.missed(line | {"floor": 1e9})


@pytest.mark.slow
def test_first_losses_agree_with_the_plain_trainer_on_questions_of_one_length(trained):
    """Ours is a mean over questions, the Trainer's over tokens: the same where all answers have the same length."""
    ours, peer = (trained[side]["losses"][0] for side in (cpu.TRAIN, TRAINER))
    assert ours == pytest.approx(peer, rel=0.05)  # theirs has the line break after the answer


@pytest.mark.slow
def test_our_answers_are_those_of_generate(shared, tiny_model):
    from medstudy import models

    family = models.load(tiny_model)
    asked = {name: value for name, value in shared.items() if name != "batch_size"} | {"max_new_tokens": 6}
    ours, peer = (run(side, asked, ()) for side in (cpu.GENERATE, Side("benchmarks.peers.generate")))
    theirs = [family.text(one["ids"]) for one in peer["asked"]]
    assert [text for said in ours["answers"] for text in said] == theirs and len(theirs) == 6


def test_a_peer_that_is_not_installed_is_listed_as_not_run(shared):
    line = pair("x", cpu.TRAIN, Side("benchmarks.peers.llama_factory"), shared, rounds=1)
    assert line["ours"] is None and "llamafactory" in line["not_run"]
    assert not main.missed(line)


def test_the_largest_image_of_a_stage_fits_in_a_pass_of_a_gpu(family, tmp_path):
    (one,) = ours.examples(data.noise(tmp_path, LARGEST, images=1, questions=gpu_stages.QUESTIONS))
    shown = plan(ours.NATIVE, size_of(one), family.geometry)[0]
    assert shown.size == LARGEST
    bin_packing.check([len(row(family, one.questions, shown, answered=True))], ours.TOKENS_PER_PASS["cuda"], ["one"])


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    return gpu_stages.Bench("cpu", TINY, folder, workers=0, keep=folder, tiny=True)


def test_every_stage_has_its_tasks(bench):
    made = gpu_stages.stages(bench)
    assert list(made) == [stage.name for stage in gpu.STAGES]
    assert all(stage.least <= stage.seconds for stage in gpu.STAGES) and all(tasks() for tasks in made.values())
    assert set(attention.FUNCTIONS) - {"prefix_sdpa", "prefix_masked"} <= set(made["smoke"]())


@pytest.mark.slow
def test_a_resident_model_starts_every_round_from_the_same_weights(bench):
    """Rounds of both sides, in turn, in one process: the first losses stay what they were."""
    options = bench.step(1008, 1008, 2, 2, learning_rate=1e-2)
    losses = {}
    for _ in range(2):
        for name, train in (("ours", bench.train), ("peer", lambda given: bench.train_peer(trainer.train, given))):
            losses.setdefault(name, []).append(train(options)["losses"])
    assert losses["ours"][0] == losses["ours"][1] and losses["peer"][0] == losses["peer"][1]
    assert losses["ours"][0][0] != losses["ours"][0][1]  # it learnt
    assert losses["ours"][0][0] == pytest.approx(losses["peer"][0][0], rel=0.05)


def test_a_peer_gets_the_model_as_transformers_makes_it(bench):
    model = bench.plain()
    assert "forward" not in vars(model.model.visual.patch_embed)
    assert model.config.text_config._attn_implementation == model.config.vision_config._attn_implementation == "sdpa"
    family = bench.fresh()
    assert "forward" in vars(family.model.model.visual.patch_embed)
    assert family.model.config.text_config._attn_implementation == family.attention.name
    bench.train(bench.step(1008, 1008, 1, 2, freeze_tower=True))
    assert all(part.requires_grad and part.grad is None for part in bench.fresh().model.parameters())


def test_a_resident_model_answers_as_generate_does(bench):
    options = bench.options(bench.images(1008, 1008, 1), images_per_step=1, steps=2, max_new_tokens=4)
    mine, theirs = bench.generate(options), bench.generate_peer(options)
    assert [text for said in mine["answers"] for text in said] == [bench.family.text(one["ids"])
                                                                   for one in theirs["asked"]]


def test_the_flop_bound_is_near_the_number_of_questions_on_a_large_image(tmp_path):
    """Qwen2-VL-2B at 1008²: ten questions cost as much as 1.04 images, less what their own tokens cost."""
    folder = tmp_path / "data"
    folder.mkdir()
    large = Resident("meta", SIZES["2b"], tmp_path, 0)
    from argparse import Namespace

    from medstudy import models
    from medstudy.params import Model

    family = models.sketch(Model(id=str(large.folder), dtype="bfloat16"))
    options = Namespace(data=data.noise(folder, (1008, 1008), 1, 10))
    bound = gpu_stages.flop_bound(Namespace(family=family), options)
    assert 8 < bound < 10


def test_a_prediction_stands_beside_what_was_measured(bench):
    lines = {line["name"]: line for line in gpu_stages.utilisation(bench, 1008, 1008, 2, 2, 0.55)}
    size = "1008x1008"
    assert set(lines) == {f"model FLOP utilisation at {size}", f"seconds a step at {size}: predicted",
                          f"memory at {size}: predicted"}
    assert all(line["ratio"] == pytest.approx(line["peer"] / line["ours"]) for name, line in lines.items()
               if name.endswith("predicted"))


def test_without_a_gpu_the_stages_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmarks", "gpu", "--results", str(tmp_path)])
    with pytest.raises(SystemExit, match="need a CUDA device"):
        main.main()


@pytest.mark.slow
def test_the_gpus_benchmark_runs_from_end_to_end_on_a_cpu(tmp_path):
    """A rehearsal with a tiny model: every stage ends, what needs a GPU is listed, and a second run does nothing."""
    command = [sys.executable, "-m", "benchmarks", "gpu", "--device", "cpu", "--minutes", "20", "--results", tmp_path]
    done = subprocess.run([*command, "--commit", "abc"], cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:] + (tmp_path / "gpu.log").read_text()[-3000:]
    about = json.loads((tmp_path / "gpu-rehearsal.about.json").read_text())
    assert about["commit"] == "abc" and {one["state"] for one in about["stages"].values()} == {"done"}
    lines = json.loads((tmp_path / "gpu-rehearsal.json").read_text())
    assert {line["stage"] for line in lines} == {stage.name for stage in gpu.STAGES}
    ran = [line for line in lines if line["ours"] is not None]
    assert {"s/question", "TFLOP/s", "1 is yes", "loss", "GB", "relative difference"} <= {line["unit"] for line in ran}
    again = subprocess.run([*command, "--resume"], cwd=paths.ROOT, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout.count("done before") == len(gpu.STAGES)


@pytest.mark.slow
def test_the_list_of_what_must_travel_is_what_the_stages_import():
    assert needs.loaded() <= {name.replace("_", "-") for name in needs.NEEDED.values()}


def test_results_are_a_list_with_the_promised_columns(tmp_path, monkeypatch, capsys):
    lines = [{"name": "x", "unit": "s/question", "ours": 1.0, "peer": 4.0, "peer_name": "p", "ratio": 4.0, "goal": 3.0,
              "floor": 2.0}]
    monkeypatch.setattr(main, "RESULTS", tmp_path)
    monkeypatch.setattr(cpu, "measure", lambda pythons: iter(lines))
    monkeypatch.setattr("sys.argv", ["benchmarks", "cpu"])
    assert main.main() == 0
    assert json.loads((tmp_path / "cpu.json").read_text()) == lines
    assert json.loads((tmp_path / "cpu.about.json").read_text())["versions"]["torch"]
    lines[0]["ratio"] = 1.9
    assert main.main() == 1
    assert "1.90" in capsys.readouterr().out


@pytest.mark.slow
def test_the_reporting_stage_runs_on_a_made_study(tmp_path):
    large_study.make(tmp_path, 1)  # the least: 100 questions
    made = {name: reporting_element.main(name, tmp_path) for name in ("scores", "claims", "03_native_vs_fixed")}
    assert len({line["rows"] for line in made.values()}) == 1 and made["scores"]["rows"] > 100 * 150
    (file,) = tmp_path.glob("runs/scores-*/scores.parquet")
    assert set(SCORES) <= set(pd.read_parquet(file))
    assert "reproduced" in next(tmp_path.glob("runs/claims-*/claims.csv")).read_text()
    assert list(tmp_path.glob("figures/large/03_native_vs_fixed.png"))
    line = reporting.element("tables", tmp_path)
    assert 0 < line["read"] < line["seconds"] and line["peak_mb"] > 50
    assert reporting.missed(line | {"goal_mb": 1}) and not reporting.missed(line | {"goal_seconds": 1e9})
