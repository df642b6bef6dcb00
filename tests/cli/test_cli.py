"""The command line: help with examples; one clear message and exit status 2 for each of our errors."""

from __future__ import annotations

import pandas as pd
import pytest
from rich.console import Console

from medstudy import cli, params
from medstudy.cli import claims as cli_claims
from medstudy.cli import doctor, main
from medstudy.runs import plan
from tests.support.studies import write_study

COMMANDS = (
    "run", "retry", "estimate", "data", "convert", "status", "logs", "clean", "fetch", "report", "verify", "rescore",
    "export", "doctor", "notebook",
)


@pytest.fixture
def tiny_file(tmp_path):
    """Writes a params file whose runs and figures go below tmp_path."""
    return lambda **changes: write_study(tmp_path, **changes)


def test_help_lists_every_command_and_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    output = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(f"\n    {name} " in output for name in COMMANDS)
    assert "examples:" in output and "params/offline.yaml" in output


def test_every_example_parses():
    lines = [line.split("  ")[1] for line in cli.EXAMPLES.splitlines() if line.startswith("  python")]
    assert len(lines) >= len(COMMANDS)
    for line in lines:
        assert callable(cli.parser().parse_args(line.split()[3:]).command)


@pytest.mark.parametrize("command", ["run", "estimate", "status", "report", "verify"])
def test_a_missing_study_is_one_message_without_traceback(command, capsys):
    assert main([command, "params/nothing.yaml"]) == 2
    output = capsys.readouterr().err
    assert output.startswith("medstudy: A study is a yaml file, but there is none at params/nothing.yaml")
    assert "Traceback" not in output


def test_a_wrong_parameter_is_named_before_anything_is_made(tmp_path, capsys, tiny_file):
    file = tiny_file(seedz=[0])
    assert main(["run", str(file)]) == 2
    assert "seedz: no such parameter; valid names here:" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_dry_run_prints_the_jobs_and_makes_nothing(tmp_path, capsys, tiny_file):
    assert main(["run", str(tiny_file()), "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "train-native-s0" in output and "jobs to make." in output
    assert not (tmp_path / "runs").exists()


def test_status_of_a_study_that_never_ran(capsys, tiny_file):
    assert main(["status", str(tiny_file())]) == 0
    output = capsys.readouterr().out
    count = len(plan.plan(params.load(tiny_file())))
    assert "train-native-s0" in output and f"0 of {count} jobs done, {count} waiting" in output


@pytest.mark.parametrize("command, message", [("report", "has no claims yet"), ("verify", "data-phantom has not run")])
def test_a_study_that_never_ran_has_nothing_to_report_or_verify(command, message, capsys, tiny_file):
    assert main([command, str(tiny_file())]) == 2
    assert message in capsys.readouterr().err


def test_cores_must_be_a_positive_number(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "params/tiny.yaml", "--cores", "0"])
    assert stop.value.code == 2 and "a number of at least 1 is needed, got '0'" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [["question=q", "question=r"], ["question"], ["question="]])
def test_columns_are_pairs_and_each_is_given_once(columns, capsys, tmp_path):
    more = columns[1:] or ["answer=a"]
    assert main(["data", "check", str(tmp_path), "--columns", columns[0], "--columns", *more]) == 2
    assert "each WHAT once, got question" in capsys.readouterr().err


def test_a_list_option_given_twice_is_one_list():
    assert cli.parser().parse_args(["run", "x.yaml", "--only", "a", "b", "--only", "c"]).only == ["a", "b", "c"]


def test_a_parameter_given_twice_is_refused(capsys, tmp_path):
    assert main(["notebook", "02_train", "--out", str(tmp_path), "-p", "run", "a", "-p", "run", "b"]) == 2
    assert "given once, got more of run" in capsys.readouterr().err


def test_doctor_names_device_attention_and_reasons():
    findings = {finding.what: finding for finding in doctor.examine()}
    named = {"python", "torch", "transformers", "cores", "memory", "device", "attention in bfloat16", "base model",
             "server client", "vllm"}
    assert named <= set(findings)
    assert findings["device"].found.startswith(("cpu", "cuda"))
    assert findings["device"].why and findings["attention in float32"].why


def test_the_claims_table_shows_estimate_interval_and_verdict():

    row = {"id": "C1", "claim": "native beats low", "source_value": "+0.54 to +6.8", "why": "because"}
    claims = pd.DataFrame(
        [
            row | {"estimate": 3.25, "low": -1.0, "high": 7.5, "verdict": "inconclusive"},
            row | dict.fromkeys(("estimate", "low", "high"), float("nan")) | {"id": "C9", "verdict": "not run"},
        ]
    )
    narrow = Console(width=60, record=True, file=open("/dev/null", "w"))
    narrow.print(cli_claims.claims_lines(claims.assign(claim="native beats low " * 9), 0.95, 60))
    lines = narrow.export_text().splitlines()
    assert len(lines) == 4 and all(len(line) <= 60 for line in lines)
    assert any(line.split()[:5] == ["C1", "+3.25", "[-1.00,", "+7.50]", "inconclusive"] for line in lines)
    console = Console(width=140, record=True, file=open("/dev/null", "w"))
    console.print(cli_claims.claims_table(claims, 0.95))
    output = console.export_text()
    assert "95 %" in output and "+3.25" in output and "[-1.00, +7.50]" in output
    assert "inconclusive" in output and "not run" in output and "nan" not in output
