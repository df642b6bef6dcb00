"""The files that a job depends on: all that can change its result, and of alternatives only those that it uses."""

from __future__ import annotations

import ast
import fnmatch
import shutil
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from medstudy import params, paths
from medstudy.errors import ParamsError
from medstudy.runs import identity, plan
from medstudy.runs import stages as runs_stages
from medstudy.utils import code_hash, syntax

TINY = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())
FIGURES = {f"figure-{name}" for name in runs_stages.FIGURES}
CACHES = (code_hash.code, identity.files, identity.imports, identity.family, identity.stage_code)
MODEL, SHOWN = {"base", "train", "evaluate", "bounds"}, {"claims", "figure", "tables", "report"}
SIGHT = MODEL
DRAWN, SCORED = {"figure", "tables", "report"}, {"bounds", "scores", "tables", "report"}
EVERY = set(runs_stages.NOTEBOOK) - {"probe", "compare"}  # of other studies

# The stages whose jobs each file of the library makes (jobs that need those follow), for the tiny study: phantom, atlas
# and Qwen2-VL. The first pattern that matches a file decides; a file without a pattern makes nothing.
MADE_BY = {
    **dict.fromkeys(("engine/__init__.py", "evaluation/__init__.py", "report/__init__.py", "report/pages/__init__.py",
                     "resolution/__init__.py", "training/__init__.py"), set()),
    "bounds/__init__.py": set(), "bounds/results.py": {"bounds", *SHOWN}, "bounds/*.py": {"bounds"},
    "claims/*.py": {"claims"},
    **dict.fromkeys(("data/arrow_store.py", "data/known.py"), {"bounds", "data", "train", "evaluate", *SHOWN}),
    "data/choices.py": SCORED, "data/standard_scores.py": SCORED, "data/words.py": SCORED, "data/yes_no.py": SCORED,
    "data/clinical_labels.py": SCORED, "data/counts.py": SCORED, "data/located_scores.py": SCORED,
    "data/coordinates.py": {*MODEL, *SCORED}, "data/final_answer.py": {*MODEL, *SCORED},
    "data/places.py": {"data", *MODEL, *SCORED},
    "data/conflicts.py": {"data"}, "data/readers/hub.py": {"data"},
    "data/encoded_image.py": EVERY, "data/example.py": EVERY,
    "data/formats.py": {"base", "bounds", "data", "evaluate", "scores", "tables", "report"},
    "data/leakage.py": {"leakage", *SHOWN},
    "data/perceptual_hash.py": {"data", "leakage", *SHOWN},
    "data/reading_params.py": {"bounds"}, "data/references.py": {"scores"},
    "data/splits.py": {"bounds", "data", "report"},
    "datasets/__init__.py": {"data", "report"},
    "datasets/atlas/__init__.py": {"data"}, "datasets/atlas/sources.py": {"data"},
    "datasets/atlas/crops/index.json": {"data"},
    "datasets/build.py": {"data"},
    "datasets/phantom/*": {"data"},
    "engine/compression.py": MODEL,
    "engine/attention*.py": MODEL, "engine/family_protocol.py": MODEL, "engine/flops.py": MODEL,
    "engine/row_layout.py": MODEL, "engine/shared_prefix.py": MODEL,
    "engine/image_inputs.py": MODEL,
    "engine/tensor_cache.py": {*SIGHT, "figure"}, "engine/views.py": {*SIGHT, "figure"},
    "engine/*.py": {"base", "train", "evaluate"},
    "evaluation/server/*": set(),  # models behind servers
    "evaluation/evaluate.py": {"evaluate"}, "evaluation/examine.py": {"base"},
    "evaluation/left_out.py": {"evaluate"}, "evaluation/own_box.py": {"evaluate"},
    **dict.fromkeys((f"evaluation/{name}.py" for name in ("compared", "contrastive", "embeddings")), set()),
    "evaluation/*.py": {"base", "evaluate"},
    "imaging/__init__.py": EVERY, "imaging/common_formats.py": EVERY, "imaging/png.py": EVERY,
    "imaging/read_options.py": EVERY, "imaging/to_rgb.py": EVERY,
    "imaging/dicom*.py": {"data"}, "imaging/codestream.py": {"data"},  # atlas has images of pydicom
    "models/auto.py": set(), "models/auto_processor.py": set(), "models/tiled/*": set(),
    "models/convert/*": set(), "models/contrastive.py": {"bounds"},
    "models/summary.py": {"base", "evaluate"},
    "models/*.py": MODEL,
    "report/pages/compare.py": set(), "report/inference_cost.py": DRAWN,
    "report/bounded.py": DRAWN, "report/captions.py": DRAWN, "report/probe_page.py": set(),
    "report/figures/__init__.py": {"figure", "report"}, "report/frames.py": {"figure"},
    "report/figures/*.py": {"figure"},
    "report/pages/readme.py": set(), "report/pages/verify.py": set(),
    "report/pages/*": {"report"},
    "report/tables/*.py": {"tables", "report"},
    "report/*.py": SHOWN,
    "resolution/resize.py": {*SIGHT, "figure"},
    "resolution/frames.py": {*MODEL, *SCORED}, "resolution/sizes.py": EVERY,
    "resolution/*.py": MODEL,
    "runs/inputs.py": {"leakage", "scores", *SHOWN}, "utils/parquet.py": {"leakage", "scores", *SHOWN},
    "runs/wall_clock.py": {"report"},
    "scoring/author_report.py": {"tables", "report"},
    "scoring/columns.py": SCORED, "scoring/located.py": SCORED, "scoring/metrics.py": SCORED,
    "scoring/report*.py": SCORED, "scoring/score.py": SCORED,
    "statistics/gain_parts.py": {"figure", "claims"},
    "statistics/tags.py": DRAWN,
    "statistics/*.py": {"bounds", *SHOWN},
    "training/launch.py": set(), "training/model_card.py": set(), "training/worker.py": set(),
    "training/*.py": {"train"},
    "utils/formatting.py": {"report"}, "utils/yaml_files.py": {"report"},
    "utils/redact.py": {"data", *MODEL, *SHOWN},
    "utils/seeding.py": {"data", *SIGHT, "report"},
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package and its notebooks, from which a study is planned; edits do not reach the original."""
    root = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", "*.png", "*.safetensors")
    for name in ("medstudy", "notebooks"):
        shutil.copytree(paths.ROOT / name, root / name, ignore=ignored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "PACKAGE", root / "medstudy")
        patch.setattr(paths, "NOTEBOOKS", root / "notebooks")
        patch.setattr(code_hash, "syntax_of", lambda file: parsed(file.name, file.read_bytes()))
        yield root / "medstudy"
        forget()
    forget()


@cache
def parsed(name: str, content: bytes) -> syntax.Code:
    """As `syntax.read`, but once per content."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        return syntax.read(Path(folder) / name)


def forget():
    for cached in CACHES:
        cached.cache_clear()


def identities(**changes) -> dict[str, str]:
    forget()
    return {job.name: job.identity for job in plan.plan(params.parse(TINY | changes))}


def changed(before, after) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def library(package) -> list[str]:
    files = (file for file in package.rglob("*") if file.is_file() and file.relative_to(package).parts[0] != "base")
    return sorted(file.relative_to(package).as_posix() for file in files)


def made_by(file: str) -> set[str]:
    return next((stages for pattern, stages in MADE_BY.items() if fnmatch.fnmatchcase(file, pattern)), set())


def test_comments_and_docstrings_rename_no_job(package):
    before = identities()
    for file in (package / name for name in library(package) if name.endswith(".py")):
        text = file.read_text()
        tree = ast.parse(text)
        tree.body.insert(0, ast.Expr(ast.Constant("Another docstring of the module.")))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                node.body.insert(0, ast.Expr(ast.Constant("Another docstring.")))
        file.write_text("# a comment\n" + ast.unparse(tree) + "\n# a comment\n")
        assert file.read_text() != text
    assert identities() == before


def test_each_file_makes_exactly_the_stages_that_the_table_says(package, monkeypatch):
    """For every file of the library, from what is hashed for each stage; the test below checks that the hash counts."""
    forget()
    hashed, real, now = defaultdict(set), identity.stage_code.__wrapped__, []
    monkeypatch.setattr(code_hash, "code", lambda *files: hashed[now[-1]].update(files) or "a hash")
    monkeypatch.setattr(identity, "stage_code", lambda stage, *own: now.append(stage) or real(stage, *own))
    plan.plan(params.parse(TINY))
    found = {name: {stage for stage, files in hashed.items() if name in files} for name in library(package)}
    differing = {name: (stages, made_by(name)) for name, stages in found.items() if stages != made_by(name)}
    assert differing == {}, differing
    assert [pattern for pattern in MADE_BY if not fnmatch.filter(found, pattern)] == []


@pytest.mark.parametrize(
    "file", ["engine/image_inputs.py", "scoring/metrics.py", "datasets/atlas/crops/index.json",
    "report/pages/templates/page.css", "imaging/dicom_codecs.py",
             "utils/progress.py", "report/save.py", "models/tiled/gemma3.py"],
)
def test_a_change_of_code_renames_the_jobs_that_a_file_makes_and_no_other(package, monkeypatch, file):
    """Jobs that need a renamed job follow; they are left out here."""
    real = identity.hash_of
    monkeypatch.setattr(identity, "hash_of", lambda content: real({k: v for k, v in content.items() if k != "needs"}))
    before, stages = identities(), {job.name: job.stage for job in plan.plan(params.parse(TINY))}
    with edited(package / file):
        assert {stages[name] for name in changed(before, identities())} == made_by(file)


def test_a_figures_own_code_draws_that_figure_alone(package):
    before = identities()
    with edited(package / "report" / "figures" / "mismatch_heatmap.py"):
        assert changed(before, identities()) == {"figure-04_mismatch_heatmap", "report"}
    with edited(package / "report" / "style.py"):
        assert changed(before, identities()) == {"claims", "tables", "report", *FIGURES}
    with edited(package / "report" / "save.py"):
        assert "claims" in changed(before, identities())  # it writes claims.csv


def test_a_renamed_job_renames_the_jobs_that_need_it(package):
    before = identities()
    with edited(package / "training/train.py"):
        found = changed(before, identities())
    assert {"train-native-s0", "evaluate-native-s0", "scores", "report"} <= found
    assert not found & {"data-phantom", "leakage", "base", "evaluate-base-s0"}


@contextmanager
def edited(file):
    content = file.read_bytes()
    file.write_bytes(content + b"\nADDED = 1\n")
    try:
        yield
    finally:
        file.write_bytes(content)


LOCAL = {"name": "local", "label": "mine", "path": "mine"}


@pytest.mark.parametrize(
    ("file", "family", "counts"),
    [
        ("models/tiled/gemma3.py", "gemma3", True), ("models/tiled/__init__.py", "gemma3", True),
        ("models/qwen_vl.py", "gemma3", False),
        ("models/tiled/idefics3.py", "smolvlm", True), ("models/tiled/gemma3.py", "qwen2_vl", False),
        ("models/qwen_vl.py", "qwen3_vl", True), ("models/qwen_vl.py", "auto", False),
        ("models/auto.py", "auto", True), ("models/auto.py", "qwen2_5_vl", False),
    ],
)
def test_a_model_depends_only_on_its_own_family(package, file, family, counts):
    changes = {"model": {"id": "some/where", "family": family}}
    before = identities(**changes)
    with edited(package / file):
        found = changed(before, identities(**changes))
    assert ("train-native-s0" in found, "base" in found, "evaluate-base-s0" in found) == (counts,) * 3
    assert "data-phantom" not in found


@pytest.mark.parametrize(
    ("file", "family", "stages"),
    [
        ("evaluation/contrastive.py", "clip", {"base", "evaluate"}), ("evaluation/compared.py", "clip", {"evaluate"}),
        ("models/contrastive.py", "clip", {"base", "evaluate"}), ("evaluation/contrastive.py", "qwen2_vl", set()),
        ("models/contrastive.py", "auto", set()), ("models/qwen_vl.py", "clip", set()),
    ],
)
def test_a_model_that_is_not_trained_depends_only_on_its_own_kind(package, file, family, stages):
    changes = {"model": {"id": "some/where", "family": family}, "regimes": [], "seeds": [], "low": None,
               "training": None, "bounds": None, "controls": {}}
    before = identities(**changes)
    with edited(package / file):
        found = changed(before, identities(**changes))
    assert {name.split("-")[0] for name in found} & {"base", "evaluate", "data"} >= stages
    assert bool(found) == bool(stages)


def test_image_readers_count_for_data_that_may_hold_such_images(package, tmp_path):
    """Phantom is drawn by code; atlas reads images of pydicom; the kinds of files under a path are unknown."""
    (tmp_path / "mine.csv").write_text("image,question,answer\na.png,What?,a\n")
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    data = [{"name": "phantom"}, {"name": "atlas"}, LOCAL | {"path": str(tmp_path / "mine.csv")}, {"name": "vqa_rad"}]
    found = {}
    before = identities(datasets=data)
    for reader in ("whole_slide", "nifti", "tiff", "dicom", "common_formats"):
        with edited(package / "imaging" / f"{reader}.py"):
            renamed = changed(before, identities(datasets=data))
        found[reader] = {name for name in renamed if name.startswith("data-")}
    with edited(package / "datasets" / "user" / "rows.py"):
        renamed = changed(before, identities(datasets=data))
        assert "data-mine" in renamed and not {"data-phantom", "data-atlas"} & renamed
    elsewhere = {"data-mine", "data-vqa_rad"}
    assert found["whole_slide"] == found["nifti"] == found["tiff"] == elsewhere
    assert found["dicom"] == elsewhere | {"data-atlas"}
    assert found["common_formats"] == elsewhere | {"data-atlas", "data-phantom"}


def test_atlas_reads_only_the_kinds_of_image_that_it_names(monkeypatch):
    from medstudy import imaging
    from medstudy.datasets import atlas

    for name in ("tiff", "nifti", "whole_slide"):
        monkeypatch.setattr(getattr(imaging, name), "read", lambda *_: pytest.fail("read by an unnamed reader"))
    for source, about in atlas.SOURCES.items():
        if not about["bundled"]:
            assert atlas.whole.__wrapped__(source).mode == "RGB"


def test_another_family_or_data_set_in_the_registry_renames_no_job(package):
    before = identities()
    changes = {
        "models": ("(Qwen2VL,", "(Tiles, Qwen2VL,", "from medstudy.models.tiled import Tiles"),
        "datasets": ("(phantom,", "(csv, phantom,", "import csv"),
    }
    for name, (old, new, line) in changes.items():
        file = package / name / "__init__.py"
        text = ast.unparse(ast.parse(file.read_text()))
        assert old in text and "import annotations\n" in text
        file.write_text(text.replace(old, new).replace("import annotations\n", f"import annotations\n{line}\n"))
        assert identities() == before


def test_a_file_or_a_name_that_is_not_there_is_an_error(package, monkeypatch):
    with pytest.raises(ParamsError, match=r"must match one, but 'figures/gone\*.py' matches none"):
        code_hash.code("claims/__init__.py", "figures/gone*.py")
    with pytest.raises(ParamsError, match="but 'gone.py' matches none"):
        identity.files("gone.py")
    with pytest.raises(ParamsError, match="`name = 'gone'`"):
        identity.family("gone")
    monkeypatch.setitem(identity.SOURCES, "scores", ("scorin.py",))
    with pytest.raises(ParamsError, match="'scorin.py' matches none"):
        identities()
    with pytest.raises(ParamsError, match="by their full names"):
        identity.used(syntax.Code("", frozenset({(".models", "tiles")})))


def test_only_figures_are_imported_by_a_computed_name():
    """Reading imports does not find computed names; each figure's job names its own figure."""
    dynamic = ("import_module(", "__import__(", "exec(", "runpy")
    files = {file.relative_to(paths.PACKAGE).as_posix(): file.read_text() for file in code_hash.matching("**/*.py")}
    found = {name for name, text in files.items() if any(word in text for word in dynamic)}
    found = {name for name in found if not identity._matches(name, identity.NEUTRAL)}
    assert found <= {"report/figures/__init__.py", "cli/doctor.py"}, found


def test_every_neutral_module_and_choice_exists_and_has_a_reason():
    for name, why in identity.NEUTRAL.items():
        assert list(paths.PACKAGE.glob(name)) and len(why) > 5, name
    for name, patterns in identity.CHOICES.items():
        assert (paths.PACKAGE / name).is_file() and all(list(paths.PACKAGE.glob(one)) for one in patterns)


# The alternatives that `report/study_data.py` leaves out, checked in another way: which functions of it the stages
# call, and what these use.
CALLED = {"claims": {"claims_of", "SCORES"}, "figure": {"study_data"}, "tables": {"study_data"},
          "report": {"study_data", "claims_file"}}
WITHOUT_EFFECT = {
    "models/__init__.py": "the number of weights of a study with adapters, whose models the evaluations depend on",
    "datasets/__init__.py": "labels and versions of data sets, which are in the identities of their jobs",
}


def names_used(tree: ast.Module, called: set[str]) -> set[str]:
    """The global names that these functions and values of a module use, directly and indirectly."""
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    defined |= {target.id: node for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}
    names, queue = set(), list(called)
    while queue:
        if (name := queue.pop()) not in names:
            names.add(name)
            inside = ast.walk(defined[name]) if name in defined else ()
            queue += [node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    return names


def imported_by(tree: ast.Module, names: set[str]) -> set[tuple[str, str]]:
    """(module, name) of imports under these names, at the top of the module or inside functions of these names."""
    tops = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    inside = [part for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names
              for part in ast.walk(node) if isinstance(part, ast.ImportFrom)]
    used = [(node.module, alias) for node in tops for alias in node.names if (alias.asname or alias.name) in names]
    return {(module, alias.name) for module, alias in used} | {
        (node.module, alias.name) for node in inside for alias in node.names
    }


@pytest.mark.parametrize("stage", CALLED)
def test_what_a_stage_calls_in_the_study_data_counts_for_it(stage):
    notebook = syntax.notebook(paths.NOTEBOOKS / f"{runs_stages.NOTEBOOK[stage]}.ipynb")
    tree = ast.parse((paths.PACKAGE / "report/study_data.py").read_text())
    assert CALLED[stage] <= {name for node in tree.body for name in names_of(node)}
    pairs = imported_by(tree, names_used(tree, CALLED[stage]))
    needed = set(identity.used(syntax.Code("", frozenset(pairs)))) - WITHOUT_EFFECT.keys()
    counted = identity.files(*identity.used(notebook), *identity.SOURCES.get(stage, ()))
    assert needed <= set(counted), needed


def names_of(node: ast.stmt) -> list[str]:
    return [target.id for target in node.targets] if isinstance(node, ast.Assign) else [getattr(node, "name", "")]
