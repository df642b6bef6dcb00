"""The docs are true: params, commands and files that they show work, generated tables are those of the code, links lead
somewhere, and the site builds."""

from __future__ import annotations

import json
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from benchmarks import PAGE, sweeps
from benchmarks.__main__ import RESULTS, markdown, missed
from docs import tables
from medstudy import cli, datasets, models, params, paths
from medstudy.evaluation import evaluate
from medstudy.report.pages import readme
from medstudy.resolution import policies
from medstudy.scoring import score
from tests.support import cards, own

DOCS = paths.ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
TINY = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language, without the indentation that they have in a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", read(page), re.S | re.M)
    return [re.sub(rf"^{indent}", "", text, flags=re.M) for indent, text in found]


# What readers paste

YAML = [(page, yaml.safe_load(block)) for page in PAGES for block in blocks(page, "yaml")]
COMMANDS = [(page, line) for page in PAGES for line in re.findall(r"^ *python -m medstudy (.*)$", read(page), re.M)]


@pytest.mark.parametrize(("page", "block"), YAML, ids=lambda value: value if isinstance(value, str) else "")
def test_every_block_of_params_is_valid(page, block):
    """On its own, or as the part of a study that it shows."""
    untrained = {"training", "seeds", "low", "bounds", "controls"} if block.get("regimes") == [] else set()
    replaced = untrained | ({"training", "controls"} if "probe" in block else set())
    kept = {name: value for name, value in TINY.items() if f"{name}s" not in block and name not in replaced}
    study = params.parse(kept | block)
    if "datasets" in block:
        labels = [datasets.label(entry) for entry in study.datasets]
        assert labels == [entry["label"] for entry in block["datasets"]]


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_parses(page, line):
    assert callable(cli.parser().parse_args(shlex.split(line, comments=True)).command)


def test_the_pages_show_commands_and_params():
    assert {"how-to/your-data.md", "how-to/your-model.md", "how-to/clusters.md"} <= {page for page, _ in COMMANDS}
    assert {"how-to/your-data.md", "how-to/your-model.md"} <= {page for page, _ in YAML}


# The files of your-data.md

FILES = dict(re.findall(r"^`(my/\S+)`:\n\n```\w+\n(.*?)```", read("how-to/your-data.md"), re.S | re.M))
EXPECTED = {  # label -> (images, questions, kinds)
    "scans": (3, 4, {"closed", "open", "choice"}),
    "organs": (1, 1, {"choice"}),
    "swift": (3, 3, {"closed", "open"}),
    "llava": (1, 2, {"closed", "open"}),
    "lesions": (2, 3, {"closed", "open"}),
}


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """The page's files, and every image that they name."""
    monkeypatch.chdir(tmp_path)
    for seed, (name, content) in enumerate(FILES.items()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
        for folder in ((tmp_path / name).parent, tmp_path / "my" / "pictures"):
            own.photos(folder, re.findall(r"[\w/]+\.png", content), size=(30 + seed, 40))


@pytest.mark.parametrize("label", EXPECTED)
def test_the_files_shown_are_read_as_described(shown, label):
    entries = [entry for page, block in YAML if page == "how-to/your-data.md" for entry in block["datasets"]]
    examples = own.found(params.data(next(entry for entry in entries if entry["label"] == label)))
    questions = [question for example in examples for question in example.questions]
    assert (len(examples), len(questions), {question.kind for question in questions}) == EXPECTED[label]


# The reference


@pytest.mark.parametrize(("page", "name"), tables.parts())
def test_every_table_of_the_reference_is_that_of_the_code(page, name):
    text, (begin, end) = (tables.PAGES / f"{page}.md").read_text(encoding="utf-8"), readme.marks(name)
    shown = text.split(begin)[1].split(end)[0].strip()
    assert shown == tables.parts()[page, name], "write it with `python -m docs.tables`"
    assert [row for row in shown.splitlines() if row.endswith("|  |")] == [], "say what these mean"


def test_every_command_has_a_heading():
    assert set(re.findall(r"^### (.*)$", read("reference/command-line.md"), re.M)) == set(tables.commands())


def test_public_data_sets_share_the_parameters_that_are_listed_for_slake():
    shared = set(datasets.REGISTRY["slake"].Params.model_fields) - {"form", "languages"}
    public = [module for module in datasets.REGISTRY.values() if hasattr(module, "CARD")]
    assert public and all(shared <= set(module.Params.model_fields) for module in public)


def test_the_table_of_data_sets_is_that_of_their_cards():
    text, (begin, end) = cards.PAGE.read_text(), readme.marks("cards")
    assert text.split(begin)[1].split(end)[0].strip() == cards.table()
    public = [name for name, module in datasets.REGISTRY.items() if hasattr(module, "CARD")]
    assert re.findall(r"^\| `(\w+)`", cards.table(), re.M) == public * 2


def columns(name: str) -> set[str]:
    begin, end = readme.marks(name)
    rows = read("reference/predictions.md").split(begin)[1].split(end)[0].splitlines()
    return {column for row in rows if row.startswith("| `") for column in re.findall(r"`(\w+)`", row.split(" | ")[0])}


def test_the_columns_are_those_of_predictions_and_scores():
    study = params.parse(TINY | {"datasets": [{"name": "phantom", "train": 4, "val": 4, "test": 4}]})
    examples = list(datasets.load(study.datasets[0], "test"))[:1]
    predictions = evaluate.predict(models.load(study.model), examples, policies.Fixed(side=56), study)
    answered = columns("image") | columns("question") | columns("answer") | columns("run")
    assert set(predictions.columns) <= answered
    added = {"study", "run_id", "model", "model_revision", "regime", "seed", "mismatch"}  # of the run
    assert answered - set(predictions.columns) == added
    scores = score.score(predictions)
    assert set(scores.columns) - set(predictions.columns) == columns("scores")
    assert isinstance(scores, pd.DataFrame)


# The benchmarks


def benchmark_table(name: str) -> str:
    begin, end = readme.marks(f"benchmarks {name}")
    return PAGE.read_text(encoding="utf-8").split(begin)[1].split(end)[0].strip()


MISSED = {"cpu": set(), "gpu": {"model FLOP utilisation at 1008x1008"}}  # floors that a committed run misses


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_benchmarks_are_those_of_the_committed_run(device):
    """Their tables are in the page, and what misses its floor is known: the page says so in words."""
    file = RESULTS / f"{device}.json"
    if not file.is_file():
        assert "**Not run**" in benchmark_table(device)
        return
    lines = json.loads(file.read_text(encoding="utf-8"))
    assert benchmark_table(device) == markdown(lines)
    assert lines
    assert {line["name"] for line in lines if missed(line)} == MISSED[device], "say so in the page, or mend it"


def test_the_benchmarks_of_many_jobs_are_those_of_the_committed_run():
    lines = json.loads((RESULTS / "sweeps.json").read_text(encoding="utf-8"))
    assert benchmark_table("sweeps") == sweeps.markdown(lines, RESULTS)


# The findings


def intervals() -> set[tuple[float, float]]:
    """Every interval in the results of the study that the page is about, in points, in both directions."""
    folder, ends = paths.ROOT / "figures" / "offline-full", set()
    for file in [folder / "claims.csv", folder / "03_native_vs_fixed.csv", *folder.glob("tables/*.csv")]:
        table, scale = pd.read_csv(file), 100 if file.name.startswith("03_native") else 1
        for low in [name for name in table if name == "low" or name.endswith("_low")]:
            pairs = zip(table[low], table[low.removesuffix("low") + "high"], strict=True)
            ends |= {tuple(round(scale * end, 1) for end in pair) for pair in pairs}
    return ends | {(-high, -low) for low, high in ends}


def test_every_interval_of_the_findings_is_in_the_results():
    written = re.findall(r"\[(-?[\d.]+),\s+(-?[\d.]+)\]", read("explanation/findings.md"))
    assert len(written) > 12
    assert [pair for pair in written if (float(pair[0]), float(pair[1])) not in intervals()] == []


def test_the_costs_of_the_findings_are_in_the_results():
    table = pd.read_csv(paths.ROOT / "figures" / "offline-full" / "tables" / "06_mixed.csv")
    cost = table[table["dataset"] == "phantom"].set_index("trained")
    tokens, flops = cost["visual_tokens_pct_of_native"].round(1), cost["flops_pct_of_native"].round(1)
    text = " ".join(read("explanation/findings.md").split())
    assert f"with {tokens['mixed']} % of its visual tokens and {flops['mixed']} % of its FLOPs" in text
    assert f"for {tokens['add-84'] - 100:.0f} % more visual tokens." in text
    assert f"In FLOPs they cost {flops['add-84'] - 100:.0f} % more" in text
    assert f"with {100 / flops['fixed-84']:.1f} times the training FLOPs" in text


def test_the_probe_in_the_findings_is_that_of_the_results():
    rows = pd.read_csv(paths.ROOT / "figures" / "probe" / "resolution.csv").query("level == 'coarse'")
    score = rows.set_index(["regime", "inference"])["estimate"].mul(100).round(1)
    low, mismatch, native = score["fixed-84", "fixed-84"], score["fixed-84", "native"], score["native", "native"]
    text = " ".join(read("explanation/findings.md").split())
    assert f"reads {low} % of the coarse questions there and {mismatch} % at native" in text
    assert f"one fitted at native reads {native}" in text


# Links, and the site


def slugs(text: str) -> set[str]:
    """The anchors of a page's headings, as a code-hosting site makes them."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", head)).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [*PAGES, "../README.md", "../CONTRIBUTING.md", "../benchmarks/README.md"])
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    text = re.sub(r"^ *```.*?^ *```", "", read(page), flags=re.S | re.M)
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#]*)(?:#([^)]*))?\)", text):
        file = (DOCS / page).parent / target if target else DOCS / page
        assert file.exists(), f"{page}: {target}"
        assert not anchor or anchor in slugs(file.read_text(encoding="utf-8")), f"{page}: {target}#{anchor}"


@pytest.mark.parametrize("page", [*PAGES, "../README.md", "../CONTRIBUTING.md", "../benchmarks/README.md"])
def test_every_file_of_the_repository_that_is_named_exists(page):
    """As `medstudy/engine/attention.py`, and `medstudy.data.table_export.write` or the module that it is in."""
    for name in re.findall(r"`((?:medstudy|tests|benchmarks|workflow|params|notebooks|docs)/[\w./-]*)`", read(page)):
        assert (paths.ROOT / name).exists(), f"{page}: {name}"
    for name in re.findall(r"`(medstudy(?!\.json)(?:\.\w+)+)[(`]", read(page)):
        assert pkgutil.resolve_name(name), f"{page}: {name}"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path):
    """As `make docs` builds it: broken links and unknown pages are warnings, and warnings are errors."""
    (line,) = [line for line in (paths.ROOT / "Makefile").read_text().splitlines() if "-m sphinx" in line]
    options = shlex.split(line.partition("-m sphinx")[2].replace("build/", f"{tmp_path}/"))
    done = subprocess.run([sys.executable, "-m", "sphinx", *options], cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("index.html", "README.html", "docs/index.html", "notebooks/02_train.html"):
        assert (tmp_path / "site" / page).is_file()
