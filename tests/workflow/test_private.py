"""A whole study on private data: no notebook and no page shows an image, a text or a name of theirs."""

from __future__ import annotations

import csv

import nbformat
import pytest

from medstudy import params
from medstudy.runs import plan
from tests.support import own
from tests.support.studies import medstudy, words_on_stderr, write_study

WORDS = ("zebrafish", "wolframite", "quixotic", "xylophone")  # in file names, questions, answers, groups


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The study after it ran, from images with names, questions, answers and patients that nothing else has."""
    root = tmp_path_factory.mktemp("private")
    file, question, answer, group = WORDS
    rows = [
        {
            "image": f"{file}-{number}.png", "question": f"Which {question} shade, {kind}?",
            "answer": f"{answer} {shade}", "patient": f"{group}-{number}", "split": split,
        }
        for number, split in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 4)
        for kind, shade in (("left", "red" if number % 2 else "blue"), ("right", "Red" if number % 2 else "the red"))
    ]
    data = root / "scans"
    data.mkdir()
    for number in range(10):
        own.photo(data / f"{file}-{number}.png", number, size=(90 + number, 120))
    with (data / "questions.csv").open("w", newline="") as out:
        table = csv.DictWriter(out, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    changes = {
        "datasets": [{"name": "local", "label": "mine", "path": str(data)}],
        "regimes": [{"policy": "native", "max_pixels": 200704}, {"policy": "fixed", "side": 84}], "seeds": [0],
    }
    path = write_study(root, **changes)
    ended = medstudy("run", path)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return params.load(path)


@pytest.mark.slow
def test_no_notebook_shows_an_image_a_text_or_a_name(finished):
    for job in plan.plan(finished):
        file = job.dir / "notebook.ipynb"
        text = file.read_text().lower()
        assert not [word for word in WORDS if word in text], job.name
        assert words_on_stderr(file) == []
        if job.stage in ("data", "evaluate"):
            assert "image/png" not in text
    for stage, sentence in (("data", "No image of these data may appear"), ("evaluate", "No image of these data may")):
        files = [job.dir / "notebook.ipynb" for job in plan.plan(finished) if job.stage == stage]
        assert all(sentence in file.read_text() for file in files)


@pytest.mark.slow
def test_no_page_and_no_figure_names_them(finished):
    pages = [file for file in finished.figures.rglob("*") if file.suffix in (".html", ".md", ".csv")]
    assert len(pages) > 20
    for file in pages:
        text = file.read_text(encoding="utf-8").lower()
        assert not [word for word in WORDS if word in text], file.name


@pytest.mark.slow
def test_what_is_not_private_is_still_shown(finished):
    """The packed row of a training with its numbers, and the tokens of the data set at each rung."""
    jobs = {job.name: job for job in plan.plan(finished)}
    trained = (jobs["train-native-s0"].dir / "notebook.ipynb").read_text()
    assert "question 2" in trained and "(not shown)" in trained and trained.count("image/png") == 2  # mask, losses
    cells = nbformat.read(jobs["data-mine"].dir / "notebook.ipynb", as_version=4).cells
    tables = [output["data"]["text/html"] for cell in cells for output in cell.get("outputs", [])
              if "text/html" in output.get("data", {})]
    assert "images made smaller" in tables[-1]
