"""The profiles hold options that Snakemake and its plugin know, and agree where they should."""

from __future__ import annotations

import pytest
import yaml
from snakemake.cli import parse_args

from medstudy import paths
from medstudy.runs import stages as runs_stages

PROFILES = {file.parent.name: file for file in sorted(paths.PROFILES.glob("*/config.yaml"))}
CONTENT = {name: yaml.safe_load(file.read_text()) for name, file in PROFILES.items()}
SLURM = ("slurm", "slurm-no-accounting")
ARRAYS = "slurm-arrays"


@pytest.mark.parametrize("name", ["local", *SLURM, ARRAYS])
def test_snakemake_takes_every_option(name):
    _, options = parse_args(["--profile", str(PROFILES[name].parent), "--dry-run"])
    for key, value in CONTENT[name].items():
        assert hasattr(options, key.replace("-", "_")), key
        if isinstance(value, bool | int) and not isinstance(options.__dict__[key.replace("-", "_")], str):
            assert getattr(options, key.replace("-", "_")) == value, key


@pytest.mark.parametrize("name", ["local", *SLURM, ARRAYS, "kubernetes"])
def test_every_profile_keeps_going_and_retries(name):
    content = CONTENT[name]
    assert content["keep-going"] is True and content["rerun-incomplete"] is True
    assert content["rerun-triggers"] == ["mtime"]  # a changed command line retrains nothing
    assert name == "local" or (content["retries"] >= 1 and content["latency-wait"] >= 30)


def test_without_accounting_only_the_status_command_differs():
    with_, without = (dict(CONTENT[name]) for name in SLURM)
    assert (with_.pop("slurm-status-command"), without.pop("slurm-status-command")) == ("sacct", "squeue")
    assert without.pop("slurm-no-account") is True
    assert with_ == without
    assert "slurm-array-jobs" not in with_  # the plugin hangs with arrays, unless what follows holds


def test_arrays_are_submitted_whole_and_nothing_else_differs():
    content = dict(CONTENT[ARRAYS])
    stages = content.pop("slurm-array-jobs").split(",")
    assert set(stages) < set(runs_stages.NOTEBOOK)
    assert content.pop("max-jobs-per-timespan") == f"{content['jobs']}/1s"
    assert content.pop("jobs") >= 2000  # the largest study that is planned for
    assert content.pop("scheduler") == "greedy" and "resources" not in content
    assert 2 <= content.pop("slurm-array-limit") * 4000 < 2**17  # an argument's length, at twice what a task takes
    assert content == {key: value for key, value in CONTENT["slurm-no-accounting"].items() if key != "jobs"}
    assert content["slurm-status-command"] == "squeue"  # sacct: the state of one task for all


def test_an_untested_profile_says_so_first():
    assert PROFILES["kubernetes"].read_text().startswith("# NOT RUN")
