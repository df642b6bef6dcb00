"""The README fits on a few screens, and its numbers, commands, links and tree are those of the repository."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import pandas as pd
import pytest

from benchmarks.__main__ import RESULTS
from medstudy import cli, params, paths
from medstudy.errors import RunError
from medstudy.report.pages import readme
from tests.project.test_layers import LAYERS

README = (paths.ROOT / "README.md").read_text(encoding="utf-8")
STUDY = paths.ROOT / "figures" / "offline-full"
FOUND = README.partition("of training seeds.")[2].partition("<!-- results -->")[0]
SURE = README.partition("How sure is this?")[2]


def test_it_is_short_and_opens_with_the_question_the_commands_and_the_answer():
    lines = README.splitlines()
    assert len(lines) <= 150
    first_screen = "\n".join(lines[:45])
    for text in ("At which image resolution", "make study", "make test", "(O1)", "(C3)"):
        assert text in first_screen


def test_the_results_are_those_of_the_committed_study():
    begin, end = readme.marks("results")
    assert README.split(begin)[1].split(end)[0].strip() == readme.results(STUDY, paths.ROOT)


def claims() -> pd.DataFrame:
    return pd.read_csv(STUDY / "claims.csv").set_index("id")


def test_every_estimate_in_the_text_is_that_of_the_claim_it_names():
    """As "7.4 points [5.4, 9.3] … (O5)": signs aside, since a loss of 4.7 % is written as a loss."""
    numbers = r"(-?[\d.]+) (?:points?|%)[^\[(]*\[(-?[\d.]+), (-?[\d.]+)\][^(]*\((\w+)[),]"
    mentions = re.findall(numbers, re.sub(r"\s+(of its score\s+)?", " ", FOUND))
    assert {claim for *_, claim in mentions} == {"O1", "C1", "O2", "C2", "O4", "O5", "C3", "C3b", "O8", "O9", "O10"}
    for *written, claim in mentions:
        row = claims().loc[claim]
        same = [round(row[name], 1) for name in ("estimate", "low", "high")]
        turned = [round(-row[name], 1) for name in ("estimate", "high", "low")]
        assert [float(number) for number in written] in (same, turned), claim


def test_tasks_and_costs_in_the_text_are_those_of_the_claims():
    tasks, gain, lose = re.findall(r"of (\d+) tasks (\d+) gain and (\d+) loses \(heart size\)", FOUND)[0]
    assert f"after Holm's correction over {tasks} tasks, {gain} gain and {lose} lose" in claims()["why"]["C1"]
    assert re.search(r"By task -[\d.]+ \(heart\)", claims()["why"]["C1"])
    (flops,) = re.findall(r"for (\d+) % more FLOPs", FOUND)
    (added,) = re.findall(r"\+([\d.]+) % FLOPs", claims()["why"]["C3b"])
    assert int(flops) == round(float(added))
    costs = pd.read_csv(STUDY / "07_training_cost.csv").query("cost == 'flops'").groupby("regime")["spent"].mean()
    assert costs["mixed"] < costs["native"]


def test_the_bounds_in_the_text_are_those_of_the_table():
    (reached,) = re.findall(r"cover (\d+) % of the way from chance", FOUND)
    rows = pd.read_csv(STUDY / "tables" / "15_bounds.csv").query("dataset == 'phantom' and level == 'fine'").dropna(
        subset=["tower_native_pct"])
    seen = rows[rows["mark"] != "not shown to be visible"]
    assert int(reached) == round(100 * seen["reached"].mean())
    assert f"{_word(len(rows) - len(seen))} of {len(rows)} fine tasks no probe can tell" in re.sub(r"\s+", " ", FOUND)


def _word(number: int) -> str:
    return ("no", "one", "two", "three", "four", "five", "six")[number]


def test_every_verdict_in_the_text_is_that_of_the_claim():
    """Of the study that is shown: what is open, what is not reproduced. Of the smaller one: the same numbers."""
    full = claims()
    small = pd.read_csv(STUDY.parent / "offline" / "claims.csv").set_index("id")
    assert full.index[full["verdict"] == "inconclusive"].tolist() == ["O10"]
    assert "(O10, inconclusive)" in re.sub(r"\s+", " ", FOUND)
    assert full["verdict"]["C3"] == "not reproduced"
    ran = small[small["verdict"] != "not run"]
    assert set(full.index) - set(ran.index) == {"C3b", "O8", "O9", "O10"}
    columns = ["estimate", "low", "high", "verdict"]
    pd.testing.assert_frame_equal(ran[columns], full.loc[ran.index, columns])


def test_the_speed_in_the_text_is_that_of_the_benchmark():
    (times,) = re.findall(r"about (\d+) times\s+faster than transformers' Trainer", README)
    lines = json.loads((RESULTS / "cpu.json").read_text(encoding="utf-8"))
    assert float(times) == round(lines[0]["ratio"]) and lines[0]["peer_name"] == "trainer"


def test_the_tree_is_that_of_the_repository_in_the_order_of_its_layers():
    tree = README.partition("## The repository")[2].split("```")[1]
    top = re.findall(r"^(\w+)/  ", tree, re.M)
    library = [name.removesuffix(".py").rstrip("/") for name in re.findall(r"^  ([\w.]+/?)  ", tree, re.M)]
    assert [name for name in top if not (paths.ROOT / name).is_dir()] == []
    assert library == [layer for layer in LAYERS if not layer.startswith("__")]


def test_every_relative_link_exists():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    local = [target for target in targets if "://" not in target]
    assert local and [target for target in local if not (paths.ROOT / target).exists()] == []


def test_every_command_parses_and_names_files_that_exist():
    lines = re.findall(r"^python -m medstudy (.*)$", README, re.M)
    assert len(lines) >= 3
    for line in lines:
        assert callable(cli.parser().parse_args(shlex.split(line, comments=True)).command)
    for file in re.findall(r"(?:params|notebooks)/[\w-]+\.\w+", README):
        assert (paths.ROOT / file).exists(), file


def test_update_replaces_the_results_and_nothing_else(tmp_path):
    copy = tmp_path / "README.md"
    shutil.copy(paths.ROOT / "README.md", copy)
    begin = readme.marks("results")[0]
    copy.write_text(README.replace(begin, begin + "\nstale", 1), encoding="utf-8")
    readme.update(params.load("params/offline-full.yaml"), copy)
    assert copy.read_text(encoding="utf-8") == README


def test_a_readme_without_marks_is_explained(tmp_path):
    (tmp_path / "README.md").write_text("no marks")
    with pytest.raises(RunError, match="needs one"):
        readme.update(params.load("params/offline-full.yaml"), tmp_path / "README.md")
