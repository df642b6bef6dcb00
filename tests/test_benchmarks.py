"""The benchmarks run: at tiny sizes, against the real peers that this environment has."""

import json
from functools import partial

import pandas as pd
import pytest

from benchmarks import __main__ as main
from benchmarks import data, gpu, large_study, ours, reporting, reporting_element, runner
from benchmarks.runner import Side, pair, run
from medstudy import packing
from medstudy.batches import size_of
from medstudy.figures.data import SCORES
from medstudy.prefix import row
from medstudy.resolution import plan

TRAINER = Side("benchmarks.peers.trainer")
TINY = {"text_config": {"num_hidden_layers": 2}, "vision_config": {"depth": 2}}


@pytest.fixture(scope="module")
def shared(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {"model": tiny_model.id, "data": data.noise(folder, 56, images=2, questions=3), "images_per_step": 1,
            "steps": 3, "batch_size": 3}  # fmt: skip


@pytest.fixture(scope="module")
def trained(shared):
    """What our side and the plain Trainer measured, each in a process of its own."""
    return {side: run(side, shared, ()) for side in (gpu.TRAIN, TRAINER)}


@pytest.mark.slow
def test_a_pair_does_the_same_work_and_is_compared_by_the_question(shared, trained, monkeypatch):
    monkeypatch.setattr(runner, "run", lambda side, shared, extra: trained[side])
    line = pair("x", gpu.TRAIN, TRAINER, shared, goal=1.0, floor=0.1, rounds=2)
    assert line["ratio"] == pytest.approx(line["peer"] / line["ours"])
    assert line["ours_about"]["questions"] == 2 * 3  # two counted steps of one image
    assert line["peer_about"]["questions_per_step"] == 3
    assert line["ours_about"]["visual_tokens"] == 2 * 4
    assert line["peer_about"]["visual_tokens_encoded_per_step"] == 3 * 4
    assert not main.missed(line) and main.missed(line | {"floor": 1e9})


@pytest.mark.slow
def test_first_losses_agree_with_the_plain_trainer_on_questions_of_one_length(trained):
    """Ours is a mean over questions, the Trainer's over tokens: the same where all answers have the same length."""
    ours, peer = (trained[side]["losses"][0] for side in (gpu.TRAIN, TRAINER))
    assert ours == pytest.approx(peer, rel=0.05)  # theirs has the line break after the answer


@pytest.mark.slow
def test_our_answers_are_those_of_generate(shared, tiny_model):
    from medstudy import models

    family = models.load(tiny_model)
    asked = {name: value for name, value in shared.items() if name != "batch_size"} | {"max_new_tokens": 6}
    ours, peer = (run(side, asked, ()) for side in (gpu.GENERATE, Side("benchmarks.peers.generate")))
    theirs = [family.text(one["ids"]) for one in peer["asked"]]
    assert [text for said in ours["answers"] for text in said] == theirs and len(theirs) == 6


def test_a_peer_that_is_not_installed_is_listed_as_not_run(shared):
    line = pair("x", gpu.TRAIN, Side("benchmarks.peers.llama_factory"), shared, rounds=1)
    assert line["ours"] is None and "llamafactory" in line["not_run"]
    assert not main.missed(line)


@pytest.mark.parametrize("side", sorted({stage.args[0] for stage in gpu.STAGES.values() if isinstance(stage, partial)}))
def test_an_image_of_each_stage_fits_in_a_pass_of_a_card(family, tmp_path, side):
    (one,) = ours.examples(data.noise(tmp_path, side, images=1, questions=gpu.QUESTIONS))
    shown = plan(ours.NATIVE, size_of(one), family.geometry)[0]
    assert shown.size == (side, side)
    packing.check([len(row(family, one.questions, shown, answered=True))], ours.TOKENS_PER_PASS["cuda"], ["one"])


def test_the_gpus_stages_run_where_there_is_no_card_but_say_so(tmp_path):
    lines = list(gpu.measure({}, ["exactness"], device="cpu", sizes=TINY))
    assert {line["stage"] for line in lines} == {"exactness"}
    assert all(line["ours"] is None and "cpu" in line["not_run"] for line in lines)
    with pytest.raises(SystemExit, match="need a CUDA device"):
        list(gpu.measure({}, ["exactness"]))


def test_results_are_a_list_with_the_promised_columns(tmp_path, monkeypatch, capsys):
    lines = [{"name": "x", "unit": "s/question", "ours": 1.0, "peer": 4.0, "peer_name": "p", "ratio": 4.0, "goal": 3.0,
              "floor": 2.0}]  # fmt: skip
    monkeypatch.setattr(main, "RESULTS", tmp_path)
    monkeypatch.setattr(main.cpu, "measure", lambda pythons: iter(lines))
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
