"""The benchmarks run: at tiny sizes, against the real peers that this environment has."""

import json

import pytest

from benchmarks import __main__ as main
from benchmarks import data, gpu
from benchmarks.runner import Side, pair, run

TINY = {"text_config": {"num_hidden_layers": 2}, "vision_config": {"depth": 2}}


@pytest.fixture(scope="module")
def shared(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {"model": tiny_model.id, "data": data.noise(folder, 56, images=2, questions=3), "images_per_step": 1,
            "steps": 3, "batch_size": 3}  # fmt: skip


def test_a_pair_does_the_same_work_and_is_compared_by_the_question(shared):
    line = pair("x", gpu.TRAIN, Side("benchmarks.peers.trainer"), shared, goal=1.0, floor=0.1, rounds=1)
    assert line["ratio"] == pytest.approx(line["peer"] / line["ours"])
    assert line["ours_about"]["questions"] == 2 * 3  # two counted steps of one image
    assert line["peer_about"]["questions_per_step"] == 3
    assert line["ours_about"]["visual_tokens"] == 2 * 4
    assert line["peer_about"]["visual_tokens_encoded_per_step"] == 3 * 4
    assert not main.missed(line) and main.missed(line | {"floor": 1e9})


def test_first_losses_agree_with_the_plain_trainer_on_questions_of_one_length(shared):
    """Ours is a mean over questions, the Trainer's over tokens: the same where all answers have the same length."""
    ours, peer = (run(side, shared, ()) for side in (gpu.TRAIN, Side("benchmarks.peers.trainer")))
    assert ours["losses"][0] == pytest.approx(peer["losses"][0], rel=0.05)  # theirs has the line break after the answer


def test_our_answers_are_those_of_generate(shared, tiny_model):
    from medstudy import models

    family = models.load(tiny_model)
    asked = {name: value for name, value in shared.items() if name != "batch_size"} | {"max_new_tokens": 6}
    ours, peer = (run(side, asked, ()) for side in (gpu.GENERATE, Side("benchmarks.peers.generate")))
    theirs = [family.text(one["ids"]) for one in peer["asked"]]
    assert [text for said in ours["answers"] for text in said] == theirs and len(theirs) == 6


def test_a_peer_that_is_not_installed_is_listed_as_not_run(shared):
    pytest.importorskip("transformers")
    line = pair("x", gpu.TRAIN, Side("benchmarks.peers.llama_factory"), shared, rounds=1)
    assert line["ours"] is None and "llamafactory" in line["not_run"]
    assert not main.missed(line)


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
