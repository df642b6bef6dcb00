"""Parameters are strict and complete, and errors explain wrong ones."""

import copy
import math
import shutil
from typing import get_args

import pydantic
import pytest
import yaml

from medstudy import datasets, params, paths
from medstudy.errors import DataError, ParamsError
from medstudy.pretraining import pretrain
from medstudy.runs import plan
from tests.support import own

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
        ({"seed": 1}, "seed: no such parameter; valid names here: .*seeds.*; did you mean 'seeds'"),
        ({"training__learning_rat": 0.1}, "learning_rat: no such parameter; .*did you mean 'learning_rate'"),
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
        ({"xyz": 1}, "xyz: no such parameter; valid names here: .*workers$"),
        ({"regimes__1__sde": 3}, "here: mode, policy, rounding, side; did you mean 'side'"),
        ({"regimes__2__choices__0__sid": 3}, "here: mode, policy, rounding, side; did you mean 'side'"),
        ({"controls__views__0__native__max_pixel": 3}, "here: max_pixels, policy, rounding; did you mean 'max_pixels'"),
        ({"datasets__0__trian": 3}, "here: boxes, families, letters, .*train, um_per_px, val; did you mean 'train'"),
        ({"training__lora": {"rnk": 3}}, "here: alpha, rank, targets; did you mean 'rank'"),
        ({"regimes__1__side": "84"}, "side.*valid integer"),
        ({"regimes__1__side": 84.0}, "side.*valid integer"),
        ({"datasets__1__train": "2"}, "train.*valid integer"),
        ({"training__learning_rate": math.inf}, "learning_rate: Input should be a finite number"),
        ({"intervals__confidence": math.nan}, "confidence"),
        ({"inference__0__rounding": "processor"}, "the same `rounding`; labels do not show it"),
        ({"controls__views__0__native__rounding": "processor"}, "the same `rounding`"),
        ({"regimes__2__choices__1__rounding": "processor"}, "the same `rounding`"),
        ({"regimes__1__rounding": "floor"}, "rounding"),
        ({"controls": {}, "low": "native", "regimes": [
            {"policy": "native", "max_pixels": 200704},
            {"policy": "down_up", "side": 84, "native": {"max_pixels": 9}}]},
         "`native` of down_up-84 must be the regime native"),
        ({"model__id": ""}, "model.id.*at least one character"),
        ({"study": "x" * 65}, "study: String should have at most 64 characters"),
        ({"seeds": [2**63]}, "seeds.*less than"),
        ({"training__epochs": 10**26}, "epochs: Input should be less than or equal to"),
        ({"root": "x" * 300}, "root: .*cannot be looked up"),
        ({"root": __file__}, "root: .*is a file"),
        ({"root": "~no-such-user/x"}, "root: .*there is no user '~no-such-user'"),
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


@pytest.mark.parametrize("path", ["x" * 300 + ".yaml", "y/" * 3000, "a\0.yaml"], ids=["name", "path", "null"])
def test_a_path_that_no_file_can_have_is_one_message(path):
    with pytest.raises(ParamsError, match="cannot be looked up"):
        params.load(path)
    with pytest.raises(ParamsError, match="there is none at"):
        params.load("~no-such-user/a.yaml")


def test_a_study_is_frozen():
    study = params.parse(TINY)
    with pytest.raises(Exception, match="frozen"):
        study.seeds = (9,)


def test_policies_are_found_by_label():
    study = params.parse(TINY)
    assert study.policy("fixed-84").side == 84
    assert study.policy("down_up-84").policy == "down_up"


def _floats(kind, seen):
    """(model, field) of each float field in a type of params."""
    if isinstance(kind, type) and hasattr(kind, "model_fields") and kind not in seen:
        seen.add(kind)
        for name, field in kind.model_fields.items():
            if float in (field.annotation, *get_args(field.annotation)):
                yield kind, name
            yield from _floats(field.annotation, seen)
    for part in get_args(kind):
        yield from _floats(part, seen)


def test_no_parameter_is_infinite_or_no_number():
    found = [*_floats(params.Study, set()), *_floats(pretrain.Base, set())]
    assert len(found) > 15 and (params.Optimisation, "learning_rate") in found
    for model, name in found:
        for value in ("Infinity", "-Infinity", "NaN"):
            with pytest.raises(pydantic.ValidationError) as error:
                model.model_validate_json(f'{{"{name}": {value}}}')
            assert any(wrong["loc"][0] == name for wrong in error.value.errors()), (model, name, value)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "got an empty file"), ("# nothing\n", "got an empty file"), ("3", "got int"), ("a: 1\na: 1", "given twice")],
)
def test_a_file_that_is_no_study_is_explained(tmp_path, text, words):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ParamsError, match=words):
        params.load(tmp_path / "s.yaml")


def test_a_missing_study_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match="none at no.yaml") as error:
        params.load("no.yaml")
    assert str(tmp_path) in str(error.value) and str(paths.ROOT) in str(error.value)


SCANS = {"name": "local", "label": "scans", "path": "scans"}


@pytest.fixture
def project(tmp_path):
    """A folder with a study and the user's own data."""

    def made(name="project", **changes):
        folder = tmp_path / name
        own.photos(folder / "scans", ["a.png", "b.png", "c.png"], size=(112, 112))
        rows = [f"{image}.png,Where?,here,{split}" for image, split in (("a", "train"), ("b", "val"), ("c", "test"))]
        (folder / "scans" / "t.csv").write_text("\n".join(["image,question,answer,split", *rows]))
        (folder / "s.yaml").write_text(yaml.safe_dump(TINY | {"datasets": [SCANS]} | changes))
        return folder

    return made


def test_relative_paths_are_taken_from_the_params_files_folder(project, monkeypatch):
    shutil.copytree(paths.BASE, project("project") / "weights" / "ours")
    folder = project(model={"id": "weights/ours"}, root="out")
    for where in (folder, folder / "scans", paths.ROOT):
        monkeypatch.chdir(where)
        study = params.load(folder / "s.yaml")
        assert study.datasets[0].path == str(folder / "scans")
        assert study.model.id == str(folder / "weights" / "ours")
        assert study.root == folder / "out"
        assert [len(list(datasets.load(study.datasets[0], split))) for split in ("train", "val", "test")] == [1, 1, 1]


def test_the_params_file_wins_over_the_folder_where_medstudy_runs(project, monkeypatch):
    folder, other = project(), project("other")
    (other / "scans" / "t.csv").unlink()
    monkeypatch.chdir(other)
    assert params.load(folder / "s.yaml").datasets[0].path == str(folder / "scans")


def test_a_path_that_is_only_elsewhere_is_an_error_that_says_where(project, monkeypatch, tmp_path):
    folder = project()
    (tmp_path / "params").mkdir()
    (folder / "s.yaml").rename(tmp_path / "params" / "s.yaml")
    monkeypatch.chdir(folder)
    with pytest.raises(ParamsError, match="datasets.0.local.path.*relative to the folder of the params file") as error:
        params.load(tmp_path / "params" / "s.yaml")
    assert "Write '../project/scans'" in str(error.value)
    hub = {"name": "path_vqa", "path": "project/scans"}  # of the form of a hub's id
    (tmp_path / "params" / "h.yaml").write_text(yaml.safe_dump(TINY | {"datasets": [hub]}))
    assert params.load(tmp_path / "params" / "h.yaml").datasets[0].path == "project/scans"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match="relative to the folder of the params file"):
        params.load(tmp_path / "params" / "h.yaml")


def test_a_path_that_is_nowhere_is_named_whole(project):
    folder = project(datasets=[SCANS | {"path": "scnas"}])
    (data,) = params.load(folder / "s.yaml").datasets
    with pytest.raises(DataError, match="none at .*project/scnas. Correct it"):
        datasets.version(data)


def test_a_hub_id_stays_one_unless_its_folder_stands_beside_the_file(project):
    folder = project(datasets=[{"name": "path_vqa"}], model={"id": "Qwen/Qwen2-VL-2B-Instruct"})
    study = params.load(folder / "s.yaml")
    assert (study.datasets[0].path, study.model.id) == ("flaviagiammarino/path-vqa", "Qwen/Qwen2-VL-2B-Instruct")
    (folder / "flaviagiammarino" / "path-vqa").mkdir(parents=True)
    assert params.load(folder / "s.yaml").datasets[0].path == str(folder / "flaviagiammarino" / "path-vqa")


def test_what_a_job_is_hangs_neither_on_where_one_stands_nor_on_where_its_files_lie(project, monkeypatch, tmp_path):
    folder = project()
    shutil.copytree(paths.BASE, folder / "weights")
    text = (folder / "s.yaml").read_text().replace("id: base", "id: ./weights")
    (folder / "s.yaml").write_text(text)

    def identities(file):
        return [job.identity for job in plan.plan(params.load(file))]

    first = identities(folder / "s.yaml")
    monkeypatch.chdir(folder)
    assert identities("s.yaml") == first
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    monkeypatch.chdir(paths.ROOT)
    assert identities(moved / "s.yaml") == first
    (moved / "s.yaml").write_text(text.replace("path: scans", f"path: {moved}/scans"))
    assert identities(moved / "s.yaml") == first
    (moved / "scans" / "t.csv").write_text((moved / "scans" / "t.csv").read_text().replace("here", "there"))
    assert identities(moved / "s.yaml")[0] != first[0]


def test_two_folders_of_one_name_are_two_data_sets(tmp_path):
    """The folder's name does not identify a published data set."""
    found = []
    for name in ("a", "b"):
        (tmp_path / name / "vqa").mkdir(parents=True)
        (tmp_path / name / "vqa" / "train.csv").write_text(name * (1 + len(found)))
        found.append(datasets.version(params.data({"name": "path_vqa", "path": "vqa"}, folder=tmp_path / name)))
    assert found[0] != found[1]
    assert datasets.version(params.data({"name": "path_vqa"})) == datasets.REGISTRY["path_vqa"].VERSION


def test_a_study_survives_being_written_as_json(project):
    """Params survive the JSON in which processes of a training get them."""
    import json

    study = params.load(project(root="out") / "s.yaml")
    again = params.parse(json.loads(study.model_dump_json()))
    assert [job.identity for job in plan.plan(again)] == [job.identity for job in plan.plan(study)]
