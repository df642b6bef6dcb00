"""Parameters: strict, complete, and wrong ones explained."""

import copy

import pytest
import yaml

from medstudy import params, paths
from medstudy.errors import ParamsError

STUDIES = sorted(file for file in (paths.ROOT / "params").glob("*.yaml") if not file.stem.startswith("base"))
TINY = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_every_study_that_ships_is_valid_and_named_after_its_file(file):
    assert params.load(file).study == file.stem
    assert file.read_text().startswith("# "), "a params file opens with its story"


def _changed(**changes):
    content = copy.deepcopy(TINY)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = content
        for name in parents:
            place = place[int(name) if name.isdigit() else name]
        place[last] = value
    return content


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, "seed: no such parameter; valid names here: .*seeds"),
        ({"training__learning_rat": 0.1}, "learning_rat: no such parameter; valid names here: .*learning_rate"),
        ({"training__learning_rate": "0.1"}, "learning_rate.*valid number"),
        ({"training__learning_rate": -1}, "learning_rate.*greater than 0"),
        ({"training__epochs": 1.5}, "epochs.*integer"),
        ({"seeds": []}, "seeds.*at least 1"),
        ({"seeds": [1, 1]}, "seeds must differ"),
        ({"low": "fixed-99"}, "low must name one of the regimes"),
        ({"controls__of": "fixed-99"}, "controls.of must name one of the regimes"),
        ({"regimes__1__mode": "stretch"}, "mode"),
        ({"datasets__0__train": "many"}, "train"),
        ({"datasets__0__name": "imagenet"}, "imagenet"),
        ({"model__family": "llava"}, "family"),
        ({"leakage": {"allow": [{"evaluated": "hussain", "reason": "x"}]}}, "name data sets of the study .*hussain"),
        ({"leakage": {"allow": [{"evaluated": "atlas"}]}}, "reason"),
        ({"study": "../evil"}, "study"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_parameter_is_explained(changes, words):
    with pytest.raises(ParamsError, match=words):
        params.parse(_changed(**changes))


def test_a_missing_file_and_broken_yaml_are_explained(tmp_path):
    with pytest.raises(ParamsError, match="there is none at"):
        params.load(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(ParamsError, match="valid yaml"):
        params.load(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ParamsError, match="got list"):
        params.load(tmp_path / "list.yaml")


def test_a_study_is_frozen():
    study = params.parse(TINY)
    with pytest.raises(Exception, match="frozen"):
        study.seeds = (9,)


def test_policies_are_found_by_label():
    study = params.parse(TINY)
    assert study.policy("fixed-84").side == 84
    assert study.policy("down_up-84").policy == "down_up"
