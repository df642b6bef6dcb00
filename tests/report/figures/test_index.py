"""The README.md of a study's figures."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from medstudy.report import figures, tables
from medstudy.report.pages import index_page
from tests.support.scored_study import LEAKS, study


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    out = tmp_path_factory.mktemp("figures")
    small = study()
    figures.render_all(small, out, only=["01_native_sizes", "06_resolution_curves"])
    tables.render_all(small, out)
    assert not (out / "tables" / "10_leakage.md").exists()
    return index_page.write(small, out)


def test_every_link_and_picture_exists(page):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text())
    assert len(links) >= 2 * 3 + sum(entry.applies(study()) for entry in tables.REGISTRY.values()) - 1
    assert all((page.parent / link).is_file() for link in links)


def test_sections_are_in_order(page):
    headings = re.findall(r"^## (.*)$", page.read_text(), flags=re.M)
    assert headings == ["Question", "Method in short", "Claims and verdicts", "Figures", "Tables",
                        "What this does not show", "Not run", "Provenance"]


def test_an_allowed_leak_is_stated_with_every_result(tmp_path):
    warning = ("Leak: 3 of 12 test images of atlas are also in train of atlas (2 the same pixels, 1 nearly). "
            "Allowed: its split is by question.")
    leaking = replace(study(), leaks=LEAKS)
    rendered = figures.render_all(leaking, tmp_path, only=["06_resolution_curves"])
    rendered += tables.render_all(leaking, tmp_path)
    assert len(rendered) == 1 + len(tables.REGISTRY)
    assert all(item.caption.endswith(warning) for item in rendered if not item.missing)
    assert all(warning in file.read_text() for item in rendered for file in item.files if file.suffix == ".md")
    page = index_page.write(leaking, tmp_path).read_text()
    assert page.index(warning) < page.index("## Claims and verdicts")
    assert warning not in index_page.write(study(), tmp_path).read_text().split("## Figures")[0]


def test_it_lists_what_was_not_run(page):
    left = page.read_text().split("## Not run")[1]
    assert "curriculum" in left and "Claim C3b" in left and "Blind and shuffled baselines" in left
    assert "Control blind" not in left


def test_its_numbers_are_those_of_the_study(page):
    text, small = page.read_text(), study()
    images = small.scores.query("dataset == 'phantom'")["image_id"].nunique()
    assert f"about {images} images" in text and "1.5 million parameters" in text
    first = small.claims.iloc[0]
    assert f"{first['estimate']:.2f} [{first['low']:.2f}, {first['high']:.2f}] | {first['verdict']}" in text


def test_the_model_without_fine_tuning_is_no_training_regime():
    small = study()
    scores = small.scores.replace({"regime": {"fixed-84": "base"}})
    assert "(2 regimes, " in index_page.method(replace(small, scores=scores))
    assert "(3 regimes, " in index_page.method(small)


def test_it_describes_training_and_names_every_checkpoint():
    small = study()
    options = {"epochs": 3, "images_per_step": 4, "optimizer": "muon", "learning_rate": 0.004,
               "freeze_vision_tower": True}
    text = index_page.method(replace(small, study=small.study | {"training": options}))
    assert "3 epochs of 4 images per step, optimizer muon, peak learning rate 0.004." in text
    assert "The vision tower is frozen." in text
    listed = "\n".join(index_page.provenance(small))
    checkpoints = small.scores[["regime", "seed"]].drop_duplicates()
    assert f"{len(checkpoints)} checkpoints" in listed and listed.count("revision `") == len(checkpoints)


def test_it_is_the_same_bytes_when_written_again(page):
    before = page.read_bytes()
    assert index_page.write(study(), page.parent).read_bytes() == before
