"""Data sets on which no claim is tested: their scores stay, their claims do not, and the report says why."""

import io

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from rich.console import Console

from medstudy import claims, datasets, params, paths
from medstudy.cli import claims as on_terminal
from medstudy.report.pages import html_page, index_page
from medstudy.report.study_data import StudyData
from medstudy.report.tables import claims as table_of_claims
from medstudy.runs import plan, stages
from medstudy.scoring import score
from medstudy.workflow import displays
from tests.support.synthetic import predictions

TINY = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())
OWN = {"name": "local", "label": "scans", "path": "scans"}
FEW = "it has three patients"


def study(*data: dict, **changes) -> params.Study:
    return params.parse(TINY | {"datasets": list(data)} | changes)


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    rows = score.score(predictions(n_images=24))
    return pd.concat([rows.assign(dataset=name) for name in ("phantom", "atlas")], ignore_index=True)


def test_the_definition_or_the_params_of_a_data_set_say_that_no_claim_is_tested():
    data = study({"name": "atlas"}, {"name": "phantom"}, OWN, OWN | {"label": "few", "no_claims": FEW}).datasets
    assert datasets.with_claims(data) == ("phantom", "scans")
    assert datasets.without_claims(data) == {"atlas": datasets.atlas.NO_CLAIMS, "few": FEW}


def test_the_first_data_set_with_claims_has_the_ids_without_a_suffix(scores):
    order = study({"name": "atlas"}, {"name": "phantom"})
    table = claims.by_data_set(scores, None, datasets.with_claims(order.datasets))
    alone = claims.claims_table(scores[scores["dataset"] == "phantom"])
    pd.testing.assert_frame_equal(table, alone)
    assert displays.first_data_set(order) == "phantom"
    assert [name for name, _ in html_page.claims(order, StudyData(scores, claims=table))] == ["phantom"]


def test_a_study_without_claims_has_an_empty_table_and_the_reason(scores):
    settings = study({"name": "atlas"})
    table = claims.by_data_set(scores, None, datasets.with_claims(settings.datasets))
    assert table.empty and list(table) == claims.COLUMNS
    data = StudyData(scores, claims=table, study={"no_claims": datasets.without_claims(settings.datasets)})
    built = table_of_claims.build(data)
    expected = f"No claims were tested. No claim is tested on atlas: {datasets.atlas.NO_CLAIMS}."
    assert table_of_claims.caption(built, data) == expected
    assert displays.first_data_set(settings) == "atlas" and html_page.claims(settings, data) == []


def test_the_report_names_data_sets_without_claims_beside_the_others_claims(scores, tmp_path):
    table = claims.by_data_set(scores, None, ("phantom",))
    data = StudyData(scores, claims=table, study={"no_claims": {"atlas": FEW}})
    sentence = f"No claim is tested on atlas: {FEW}."
    assert table_of_claims.caption(table_of_claims.build(data), data).endswith(sentence)
    assert sentence in index_page.not_run(data, tmp_path)
    assert "No claim is tested" not in table_of_claims.caption(table, StudyData(scores, claims=table))


def test_the_terminal_names_them_too(tmp_path):
    settings = study({"name": "phantom"}, {"name": "atlas"}, root=str(tmp_path))
    settings.figures.mkdir(parents=True)
    row = dict.fromkeys(claims.COLUMNS, "x") | dict.fromkeys(("estimate", "low", "high"), np.nan)
    pd.DataFrame([row]).to_csv(settings.figures / "claims.csv", index=False)
    (settings.figures / "README.md").write_text("# tiny")
    text = io.StringIO()
    on_terminal.show(settings, Console(file=text, width=200))
    assert f"No claim is tested on atlas: {datasets.atlas.NO_CLAIMS}." in text.getvalue()


def test_a_reason_remakes_the_claims_and_no_data_and_no_model(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "rows.csv").write_text("image,question,answer\nscan.png,What?,a scan\n")
    Image.new("RGB", (40, 30)).save(tmp_path / "scans" / "scan.png")
    own = OWN | {"path": str(tmp_path / "scans")}
    before, after = (
        {job.name: job.identity for job in plan.plan(study({"name": "phantom"}, entry))}
        for entry in (own, own | {"no_claims": FEW})
    )
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"claims", "tables", "report", *(f"figure-{name}" for name in stages.FIGURES)}
