"""Rescoring and export: scores from predictions only, to other harnesses' files and back, without overwriting."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from medstudy import paths
from medstudy.cli import main
from medstudy.errors import DataError, ParamsError
from medstudy.scoring import author_report, harness_export, rescore, score
from tests.support import synthetic
from tests.support.studies import write_study

KEY = ["regime", "seed", "inference", "control", "decoding", "n"]


@pytest.fixture(scope="module")
def predictions():
    """Two models of two seeds at two rungs and under two controls; every rung also with sampled answers."""
    predictions = synthetic.predictions(8, 2, ("native", "mixed"), ("fixed-84", "native"), ("blind", "down_up-84"))
    greedy = predictions.assign(decoding="greedy", model="/home/somebody/models/checkpoint")
    rungs = greedy[greedy["control"] == "none"]
    drawn = rungs.assign(decoding="sampled-0.2", raw_text=np.where(rungs["kind"] == "closed", "no", rungs["raw_text"]))
    both = pd.concat([greedy, drawn], ignore_index=True)
    likely = [[-float(n % 3), -1.0, -1.5, -2.5] for n in range(len(both))]
    pairs = zip(likely, both["options"], strict=True)
    both["option_log_likelihoods"] = [values[: len(options)] for values, options in pairs]
    return both.assign(image_id="/data/patients/" + both["image_id"], group="/data/patients/" + both["group"])


@pytest.fixture
def runs(predictions, tmp_path):
    """predictions.parquet and record.json of every run, as a study writes them."""
    for number, ((regime, seed), rows) in enumerate(predictions.groupby(["regime", "seed"])):
        folder = tmp_path / "runs" / f"evaluate-{regime}-s{seed}"
        folder.mkdir(parents=True)
        rows.reset_index(drop=True).to_parquet(folder / "predictions.parquet")
        record = {"started": f"2026-11-22T22:48:0{number}+00:00", "seconds": 1.5, "versions": {"torch": "2.15.0"},
                  "parameters": {"evaluation": {"max_new_tokens": 40, "author": {"max_new_tokens": 128}}}}
        (folder / "record.json").write_text(json.dumps(record))
    return tmp_path / "runs"


def _numbered(scores):
    """Scores in an order that does not depend on the names of images."""
    rows = scores.sort_values(["regime", "seed", "inference", "control", "decoding"], kind="stable")
    places = rows.groupby(["regime", "seed", "inference", "control", "decoding"]).cumcount()
    return rows.assign(n=places).set_index(KEY).sort_index()


@pytest.mark.parametrize("to", ["lmms-eval", "lm-eval"])
def test_exported_files_read_back_give_the_same_scores_and_table(predictions, runs, tmp_path, to):
    harness_export.export(rescore.find([runs]), tmp_path / "out", to)
    there, table = rescore.rescore(rescore.find([tmp_path / "out"]))
    here = score.score(predictions)
    columns = [*score.METRICS, "chance", "level", "raw_text", "answer", "kind", "budget_pixels", "mismatch"]
    pd.testing.assert_frame_equal(_numbered(there)[columns], _numbered(here)[columns], check_dtype=False)
    expected = author_report.table(here[here["control"] == "none"])
    assert set(table.pop("model")) == {"checkpoint"}
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)  # images are still distinct
    assert table["author_mode_pct"].notna().all() and (table["author_mode_pct"] != table["greedy_author_pct"]).any()


def test_no_two_tasks_or_runs_share_a_file(predictions, runs, tmp_path):
    files = harness_export.export(rescore.find([runs]), tmp_path / "out", "lmms-eval")
    cells = predictions[["regime", "seed", "inference", "decoding"]].drop_duplicates()
    assert len(files) == len(set(files)) == len(cells) + 4  # and one results file per run
    names = {str(file.relative_to(tmp_path / "out")) for file in files}
    assert "checkpoint@native-s1/20261122_224803_results.json" in names
    assert "checkpoint@mixed-s0/20261122_224800_samples_synthetic_fixed-84_sampled-0.2.jsonl" in names
    with pytest.raises(DataError, match="overwrites no file, but .* exists"):
        harness_export.export(rescore.find([runs]), tmp_path / "out", "lmms-eval")


def test_results_hold_the_means_with_their_errors(predictions, runs, tmp_path):
    harness_export.export(rescore.find([runs]), tmp_path, "lmms-eval", commit="abc1234")
    (file,) = tmp_path.glob("checkpoint@native-s0/*_results.json")
    content = json.loads(file.read_text())
    rows = score.score(predictions).query(
        "regime == 'native' and seed == 0 and inference == 'fixed-84' and decoding == 'greedy'"
    )
    results = content["results"]["synthetic_fixed-84"]
    assert results["score,none"] == pytest.approx(rows["score"].mean())
    assert results["score_stderr_clt,none"] == pytest.approx(rows["score"].std() / len(rows) ** 0.5)
    closed = rows[rows["kind"] == "closed"]
    assert results["llava_med,none"] == pytest.approx(rows["llava_med"].mean())
    assert results["score_stderr,none"] == "N/A"
    assert content["n-samples"]["synthetic_fixed-84"] == {"original": len(rows), "effective": len(rows)}
    assert content["git_hash"] == "abc1234" and content["date"] == "20261122_224802" and len(closed)
    config = content["configs"]["synthetic_fixed-84"]
    assert config["metadata"]["max_pixels"] == 84**2 and config["generation_kwargs"]["max_new_tokens"] == 40
    drawn = content["configs"]["synthetic_native_sampled-0.2"]["generation_kwargs"]
    assert drawn == {"do_sample": True, "temperature": 0.2, "max_new_tokens": 128}
    assert set(content) >= {"results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better",
                            "n-samples", "config", "git_hash", "date", "task_hashes", "model_name"}
    assert set(content["results"]) == set(content["versions"]) == set(content["task_hashes"])


def test_errors_of_a_mean_count_rows_of_one_image_together():
    values, images = np.array([1.0, 1, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    independent, clustered = harness_export._errors(values, images)
    assert independent == pytest.approx(values.std(ddof=1) / 6**0.5)
    off = values - 2 / 3
    pairs = sum(off[i] * off[j] for i in range(6) for j in range(6) if i != j and images[i] == images[j])
    assert clustered == pytest.approx((independent**2 + pairs / 36) ** 0.5) and clustered > independent
    assert np.isnan(harness_export._errors(values, np.zeros(6, int))[1])


def test_samples_are_those_of_each_harness(runs, tmp_path):
    for to, shape in {
        "lmms-eval": {"input": "nodule?", "filtered_resps": "yes"},
        "lm-eval": {"arguments": {"gen_args_0": {"arg_0": "nodule?"}}, "filtered_resps": ["yes"], "resps": [["yes"]]},
    }.items():
        files = harness_export.export(rescore.find([runs]), tmp_path / to, to)
        (file,) = [file for file in files if "samples_synthetic_native" in file.name and "native-s0" in str(file)
                   and "sampled-" not in file.name]
        samples = [json.loads(line) for line in file.read_text().splitlines()]
        assert [sample["doc_id"] for sample in samples] == list(range(len(samples)))
        assert {"target", "doc_hash", "score"} <= set(samples[0])
        assert any(shape.items() <= sample.items() for sample in samples)
        assert len({sample["doc_hash"] for sample in samples}) == len(samples)


def test_nothing_exported_names_an_image_a_folder_or_a_person(runs, tmp_path):
    files = harness_export.export(rescore.find([runs]), tmp_path / "out", "lmms-eval")
    for file in files:
        text = str(file.relative_to(tmp_path)) + file.read_text()
        assert not any(word in text for word in ("somebody", "patients", "synthetic/0", str(tmp_path), "/home"))


def test_the_same_predictions_give_the_same_bytes_and_need_a_date(runs, tmp_path):
    first, second = (harness_export.export(rescore.find([runs]), tmp_path / name, "lmms-eval") for name in "ab")
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    for record in runs.rglob("record.json"):
        record.unlink()
    with pytest.raises(ParamsError, match="needs a date, but has no record"):
        harness_export.export(rescore.find([runs]), tmp_path / "c", "lmms-eval")
    with pytest.raises(ParamsError, match="A date is written like"):
        harness_export.export(rescore.find([runs]), tmp_path / "c", "lmms-eval", date="yesterday")
    with pytest.raises(ParamsError, match="lmms-eval, lm-eval; got 'csv'"):
        harness_export.export(rescore.find([runs]), tmp_path / "c", "csv")
    files = harness_export.export(rescore.find([runs]), tmp_path / "c", "lm-eval", date="2026-11-22")
    assert any(file.name == "results_2026-11-22T00-00-00.json" for file in files)


def test_two_runs_of_the_same_name_do_not_overwrite_each_other(runs, tmp_path):
    (file, *_) = rescore.find([runs])
    with pytest.raises(DataError, match="another run of the same model, regime and seed"):
        harness_export.export([file, file], tmp_path / "out", "lmms-eval")
    assert not (tmp_path / "out").exists()


AUTHORS = {
    "vqa-rad_12000000.jsonl": [
        {"question": "is it normal?", "answer": "No", "prediction": "Normal"},
        {"question": "where?", "answer": "left lung", "prediction": "the left left lung"},
    ],
    "ubench_50176.jsonl": [
        {"question_type": "stain", "question": "which?", "options": ["H&E", "none"], "correct_answer": "none",
         "correct_letter": "B", "prediction": "BOTH", "predicted_letter": "B"},
    ],
    "hussain_results.jsonl": [
        {"query": "which?", "response": "Normal", "prediction": "abnormal", "image_path": "/home/x/data/1.png"},
        {"query": "which?", "response": "abnormal", "prediction": "abnormal", "image_path": "/home/x/data/2.png"},
    ],
    "subcellular_50176.jsonl": [
        {"true_cell_line": "HeLa", "true_localizations": ["Cytosol", "Nucleoli"], "predicted_cell_line": "HELA",
         "predicted_localizations": ["Cytosol"], "raw_prediction": "HeLa cells: cytosol"},
        {"true_cell_line": "A-431", "true_localizations": ["Cytosol"], "predicted_cell_line": "",
         "predicted_localizations": [], "raw_prediction": "nothing"},
    ],
}


def test_the_authors_files_give_the_authors_numbers(tmp_path):
    for name, rows in AUTHORS.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores, table = rescore.rescore([tmp_path / name for name in AUTHORS])
    author = table.set_index("metric")["author_mode_pct"]
    assert author["closed accuracy"] == 100
    assert table.set_index("metric")["sampled_standard_pct"]["closed accuracy"] == 0
    assert author["open recall"] == 100 and author["letter accuracy"] == 100 and author["class accuracy"] == 100
    assert author["cell-line recall"] == 50 and author["localization macro recall"] == 25  # Cytosol 1/2, Nucleoli 0
    assert table["greedy_author_pct"].isna().all()
    assert dict(scores[["dataset", "budget_pixels"]].drop_duplicates().to_numpy()) == {
        "vqa-rad": 12_000_000, "ubench": 50176, "hussain_results": 0, "subcellular": 50176}
    assert set(scores.loc[scores["kind"] == "class", "image_id"]) == {"1.png", "2.png"}


def test_models_are_never_pooled(predictions, tmp_path):
    for model, text in (("right", predictions["answer"]), ("silent", "")):
        rows = predictions.assign(model=model, raw_text=text).query("decoding == 'greedy'")
        (tmp_path / model).mkdir()
        rows.to_parquet(tmp_path / model / "predictions.parquet")
    _, table = rescore.rescore(rescore.find([tmp_path]))
    closed = table[table["metric"] == "closed accuracy"].groupby("model")["strict_mode_pct"]
    assert closed.min()["right"] == 100 and closed.max()["silent"] == 0


def test_other_files_are_explained(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "yes"}\n')
    (tmp_path / "b.parquet").write_text("not parquet")
    for name, message in {"a.jsonl": "recognised by their columns, but .* has text", "b.parquet": "cannot be read",
                          "c.parquet": "cannot be read"}.items():
        with pytest.raises(DataError, match=message):
            rescore.read(tmp_path / name)
    with pytest.raises(DataError, match="needs a predictions.parquet or exported samples"):
        rescore.find([tmp_path])


def test_rescoring_and_exporting_load_neither_torch_nor_transformers(runs, tmp_path):
    """For a folder and for a study's params file: a laptop without them can score."""
    script = (
        "import sys\n"
        "from medstudy.cli import main\n"
        f"assert main(['rescore', {str(runs)!r}, '--out', {str(tmp_path / 'out')!r}]) == 0\n"
        f"assert main(['export', {str(runs)!r}, '--to', 'lmms-eval', '--out', {str(tmp_path / 'x')!r}]) == 0\n"
        f"assert main(['rescore', {str(write_study(tmp_path))!r}]) == 2\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=paths.ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "evaluate-base-s0 is not complete" in ran.stderr
    table = pd.read_csv(tmp_path / "out" / "author_scores.csv")
    expected = score.score(pd.concat([pd.read_parquet(file) for file in rescore.find([runs])], ignore_index=True))
    plain = expected.query("control == 'none' and kind == 'choice' and regime == 'mixed' and inference == 'native'")
    row = table.query("metric == 'letter accuracy' and regime == 'mixed' and inference == 'native'").iloc[0]
    assert row["strict_mode_pct"] == pytest.approx(100 * score.greedy(plain)["strict"].mean(), abs=1e-3)


def test_the_command_line_prints_the_table_and_one_message_for_an_error(runs, capsys):
    assert main(["rescore", str(runs / "evaluate-native-s0" / "predictions.parquet")]) == 0
    assert "closed" in capsys.readouterr().out
    assert main(["export", str(runs), "--to", "xml", "--out", "x"]) == 2
    assert "can be exported to lmms-eval, lm-eval" in capsys.readouterr().err


CHOICE = {"question": "Q", "options": ["x", "y"], "correct_letter": "A", "question_type": "t", "prediction": "A"}
CLASS = {"query": "Q", "response": "x", "image_path": "a.png", "prediction": "x"}


@pytest.mark.parametrize("row", [
    CHOICE | {"options": "['x', 'y']"}, CHOICE | {"options": {"A": "x", "B": "y"}}, CHOICE | {"correct_letter": 1},
    CLASS | {"image_path": None}, [1, 2],
    {"true_cell_line": "A549", "true_localizations": None, "raw_prediction": "A549"},
    {"medstudy": "q", "target": "x", "filtered_resps": ["x"]},
], ids=["Python's list", "mapping", "number", "no path", "list", "no places", "no mapping"])
def test_a_row_with_values_of_other_types_is_explained(tmp_path, row):
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError):
        rescore.rescore([tmp_path / "x.jsonl"])


@pytest.mark.parametrize("row", [
    {"question": "Q", "answer": 3, "prediction": "3"}, {"question": "Q", "answer": True, "prediction": "True"},
    CHOICE | {"correct_letter": "a"}, CHOICE | {"options": [1, 2]},
], ids=["number", "truth", "small letter", "numbers"])
def test_numbers_and_lower_case_letters_are_read_as_text(tmp_path, row):
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    scores, _ = rescore.rescore([tmp_path / "x.jsonl"])
    assert scores["score"].tolist() == [1.0]


def test_choices_by_letter_are_a_task_of_their_own_and_enter_no_score_of_the_author(predictions, tmp_path):
    choices = predictions[(predictions["kind"] == "choice") & (predictions["decoding"] == "greedy")]
    letters = choices.assign(format="letter", raw_text="D", question_id=choices["question_id"] + "_letter")
    both = pd.concat([predictions.assign(format=""), letters], ignore_index=True)
    both[both["regime"] == "native"].to_parquet(tmp_path / "both.parquet")
    written = harness_export.export([tmp_path / "both.parquet"], tmp_path / "out", "lm-eval", "2026-11-22")
    tasks = {file.name.removeprefix("samples_").rpartition("_")[0] for file in written}
    assert {"synthetic_native", "synthetic_native_letter"} <= tasks
    _, table = rescore.rescore(rescore.find([tmp_path / "out"]))
    both[both["format"] == ""].query("regime == 'native'").to_parquet(tmp_path / "words.parquet")
    _, without = rescore.rescore([tmp_path / "words.parquet"])
    names = ["inference", "metric", "strict_mode_pct", "author_mode_pct", "questions"]
    pd.testing.assert_frame_equal(table[names], without[names])
