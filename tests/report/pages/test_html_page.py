"""The report as one HTML file, and the pages of executed notebooks."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat import v4
from PIL import Image

from medstudy import params, paths
from medstudy.report import figures, tables
from medstudy.report.pages import html_page, index_page, markdown, notebook_page
from medstudy.report.save import Rendered
from medstudy.runs import plan
from tests.support.scored_study import LEAKS, study

EVIL = "<script>alert(1)</script><img src=https://example.org/x.png>"
HASH = "ab" * 32
FETCHED = {"src", "srcset", "data", "poster", "action", "background", "xlink:href"}


class Elements(HTMLParser):
    """A page's elements with their attributes, its text, and its words separated by elements."""

    def __init__(self, text: str):
        super().__init__()
        self.all: list[tuple[str, dict]] = []
        self.parts: list[str] = []
        self.feed(text)
        self.text = "".join(self.parts)
        self.words = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.parts.append(data)

    def named(self, name: str) -> list[dict]:
        return [attributes for tag, attributes in self.all if tag == name]

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.all if "id" in attributes]


def elements(file: Path) -> Elements:
    return Elements(file.read_text(encoding="utf-8"))


def picture() -> str:
    """A PNG as notebooks store it."""
    with io.BytesIO() as stream:
        Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(stream, "PNG")
        return base64.b64encode(stream.getvalue()).decode()


def notebook(root: Path) -> nbformat.NotebookNode:
    """An executed notebook: a heading, a table with a script, a picture, a path of the machine."""
    rows = f"<thead><tr><th>n</th></tr></thead><tr><td>7{EVIL}</td></tr>"
    table = f"<style scoped>th {{color: red}}</style><table>{rows}</table>"
    outputs = [
        v4.new_output("execute_result", {"text/html": table, "text/plain": "7"}),
        v4.new_output("display_data", {"image/png": picture(), "text/plain": "a figure"}),
        v4.new_output("display_data", {"application/javascript": "alert(2)"}),
        v4.new_output("stream", name="stdout", text=f"wrote {root}/runs/x and {Path.home()}/y {EVIL}"),
    ]
    prose = "# What they look like\n\n![far](https://example.org/far.png) *well*"
    cells = [v4.new_markdown_cell(prose), v4.new_code_cell("x = '<b>'  # seven", outputs=outputs)]
    return v4.new_notebook(cells=cells)


def job(root: Path, stage: str, name: str, seconds: float, noted: bool = True, **more) -> plan.Job:
    """A complete job in root/runs, with a record and, where noted, its executed notebook."""
    folder = root / "runs" / f"{name}-0123"
    folder.mkdir(parents=True)
    parameters = {"training": {"processes": 2}} if stage == "train" else {}
    job = plan.Job(stage, name, folder, (), "x", parameters, "0123")
    files = {f"runs/{name}/predictions.parquet": HASH} if noted else {}
    record = {"started": "2026-01-02T03:04:05+00:00", "seconds": seconds, "peak_memory_mb": 2048,
              "versions": {"torch": "2.0"}, "files": files}
    job.record.write_text(json.dumps(record | more))
    if noted:
        nbformat.write(notebook(root), folder / "notebook.ipynb")
    return job


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(study, data, rendered, jobs, folder) of a written report whose questions and claims contain HTML."""
    root = tmp_path_factory.mktemp("study")
    settings = params.load(paths.ROOT / "params" / "tiny.yaml").model_copy(update={"root": root})
    small = study(n_images=16)
    claims = small.claims.assign(why=small.claims["why"] + f" {EVIL}", claim=EVIL + small.claims["claim"])
    claims = pd.concat([claims, claims.head(1).assign(id="C1/atlas")], ignore_index=True)
    first = small.scores[["dataset", "image_id"]].iloc[0]
    examples = small.examples.assign(text=f"Is [this](gone) {EVIL} *it*?")
    data = replace(small, claims=claims, leaks=LEAKS, examples=examples)
    assert (first["dataset"], first["image_id"]) not in data.images
    folder = settings.figures
    drawn = figures.render_all(data, folder, only=["02_what_models_see", "06_resolution_curves"])
    drawn += [tables.render(name, data, folder) for name in ("02_tasks", "03_main_results", "09_claims")]
    drawn += [Rendered("08_acuity", "Acuity", missing="the study has no rows for it")]
    claims.to_csv(folder / "claims.csv", index=False)
    index_page.write(data, folder)
    (folder / "stray.png").write_bytes(base64.b64decode(picture()))
    machine = {"machine": {"host": "secret-host", "device": "Card <X>", "cards": "0,1"}}
    jobs = [
        job(root, "train", "train-native-s0", 5400.0, **machine),
        job(root, "evaluate", "evaluate-native-s0", 600.0, **machine, versions={"torch": "2.1"}),
        job(root, "scores", "scores", 1.0, noted=False),
        job(root, "report", "report", 1.0),
        plan.Job("claims", "claims", root / "runs" / "claims-1", (), "x", {}, "1"),
    ]
    html_page.write(settings, data, drawn, jobs, folder)
    return settings, data, drawn, jobs, folder


@pytest.fixture(scope="module")
def report(published):
    return elements(published[-1] / "report.html")


def pages(folder: Path) -> list[Path]:
    return [folder / "report.html", *sorted((folder / "notebooks").glob("*.html"))]


def test_nothing_is_loaded_from_the_network_and_nothing_runs(published):
    for file in pages(published[-1]):
        for tag, attributes in elements(file).all:
            assert tag not in {"script", "iframe", "object", "embed", "base"}, file
            assert not any(name.startswith("on") for name in attributes), attributes
            assert all(attributes[name].startswith("data:image/") for name in FETCHED & set(attributes)), attributes
            assert tag != "link" or attributes["href"] == "data:,"
        assert "url(" not in file.read_text() and "@import" not in file.read_text()


def test_every_link_has_its_target(published):
    for file in pages(published[-1]):
        links = [attributes["href"] for attributes in elements(file).named("a") if "href" in attributes]
        assert links
        for link in links:
            name, _, place = link.partition("#")
            target = file.parent / name if name else file
            assert target.is_file(), link
            assert not place or place in elements(target).ids, link
    assert len(elements(published[-1] / "report.html").ids) == len(set(elements(published[-1] / "report.html").ids))


def test_html_in_questions_and_claims_is_shown_as_text(published, report):
    assert "Is [this](gone)" in report.text and f"{EVIL} *it*?" in report.text  # a cell is no Markdown either
    rows = [row for row in published[1].claims.to_dict("records") if row["verdict"] != "not run"]
    assert all(row["why"] in report.text and row["claim"] in report.text for row in rows)
    assert "On 2 machines" not in report.text and "Card <X>" in report.text


def test_its_pictures_are_the_figures_of_the_folder(published, report):
    folder = published[-1]
    shown = report.named("img")
    names = ["02_what_models_see", "06_resolution_curves"]
    for attributes, name in zip(shown, names, strict=True):
        data = base64.b64decode(attributes["src"].partition(",")[2])
        with Image.open(io.BytesIO(data)) as embedded, Image.open(folder / f"{name}.png") as drawn:
            assert np.array_equal(embedded.convert("RGB"), drawn.convert("RGB"))
            assert (attributes["width"], attributes["height"]) == tuple(map(str, drawn.size))
        entry = figures.REGISTRY[name]
        assert attributes["alt"].startswith(entry.title) and attributes["alt"].endswith("?")
        assert (folder / f"{name}.png").stat().st_size * 4 / 3 > len(attributes["src"])


def test_images_that_may_not_be_shown_appear_only_in_counts(published):
    settings, data, drawn, jobs, folder = published
    scores, examples = data.scores.assign(render=False), data.examples.assign(render=False)
    hidden = replace(data, scores=scores, images={}, examples=examples)
    closed = folder.parent / "closed"
    shown = figures.render_all(hidden, closed, only=["02_what_models_see"])
    shown += [tables.render("02_tasks", hidden, closed)]
    html_page.write(settings, hidden, shown, jobs[:1], closed)
    text = elements(closed / "report.html").text
    assert not elements(closed / "report.html").named("img") and "Is [this]" not in text
    assert "no rows for it" in text and str(data.scores["question_id"].iloc[0]) + "?" not in text
    images = data.scores.drop_duplicates(["dataset", "image_id"])
    assert f"{len(images):,}" in text and not any(name in text for name in images["image_id"])


def test_a_claim_has_its_verdict_interval_and_reason(published, report):
    text = (published[-1] / "report.html").read_text()
    for row in published[1].claims.to_dict("records"):
        cells = re.search(rf'<tr role="row" id="claim-{row["id"].replace("/", "-")}">.*?</tr>', text, re.DOTALL)[0]
        assert f"</span> {row['verdict']}</span>" in cells and f'chip {row["verdict"].replace(" ", "-")}' in cells
        assert html.escape(row["why"], quote=False).replace('"', "&#34;").replace("'", "&#39;") in cells
        if not np.isnan(row["estimate"]):
            assert f"{row['estimate']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" in cells
    counts = published[1].claims["verdict"].value_counts()
    assert all(f"{count} {verdict}" in report.text for verdict, count in counts.items())
    assert report.text.index("On phantom") < report.text.index("On atlas")


def test_work_is_counted_by_stage_and_device(published, report):
    """train ran 1.5 h on two devices; the report's own run does not count."""
    words = report.words
    assert "train 1 3.0 h 3.000 95 % 2.15 GB Card <X>" in words
    assert "evaluate 1 10.0 min 0.167 5 % 2.15 GB Card <X>" in words
    assert "Work 3.2 h train 3.0 h, evaluate 10.0 min, scores 1.0 s" in words
    assert "Runs 3 of 4 planned" in words and "1 of the study's runs is not complete" in words
    assert "First start to last end 1.5 h pauses included, from 02 January 2026, 03:04 UTC" in words
    assert "Card <X> × 2" in words and "not recorded" in words


def test_provenance_has_versions_machines_parameters_and_hashes(published, report):
    words = report.words
    assert "1 machine. Devices: Card <X> (2 runs)" in words and "secret-host" not in words
    assert "torch: 2.0 in 2 runs, 2.1 in 1 run" in words
    assert words.count(HASH) == 2
    assert "seeds: - 0" in words and "checkpoint_seconds: 60" in words  # defaults too
    assert LEAKS["allowed"][0] in words


def test_no_local_path_is_shown(published):
    for file in pages(published[-1]):
        text = file.read_text()
        assert str(published[0].root) not in text and str(paths.ROOT) not in text and str(Path.home()) + "/" not in text
    assert "wrote ./runs/x and ~/y" in elements(published[-1] / "notebooks" / "train-native-s0.html").text


def test_a_notebook_is_shown_with_code_tables_and_pictures_only(published):
    shown = elements(published[-1] / "notebooks" / "train-native-s0.html")
    assert [image["src"] for image in shown.named("img")] == [f"data:image/png;base64,{picture()}"]
    assert shown.named("img")[0]["alt"] == "Picture under: What they look like"
    assert "x = '<b>'  # seven" in shown.text and "color: red" not in shown.text and "alert(2)" not in shown.text
    assert len(shown.named("table")) == 1 and shown.named("th") and shown.named("em")
    assert "stage train: the executed notebook, with its code and its outputs. 1.5 h" in shown.words


def test_only_runs_with_a_notebook_have_a_page_and_old_pages_are_removed(published):
    settings, data, drawn, jobs, folder = published
    assert {file.stem for file in (folder / "notebooks").iterdir()} == {"train-native-s0", "evaluate-native-s0"}
    copied = folder.parent / "again"
    (copied / "notebooks").mkdir(parents=True)
    (copied / "notebooks" / "gone.html").write_text("old")
    html_page.write(settings, data, [], jobs[2:], copied)
    assert not (copied / "notebooks" / "gone.html").exists()
    assert "None was drawn." in elements(copied / "report.html").text  # an empty folder is no error


def test_it_is_the_same_bytes_when_written_again(published):
    settings, data, drawn, jobs, folder = published
    before = {file: file.read_bytes() for file in pages(folder)}
    html_page.write(settings, data, drawn, jobs, folder)
    assert before == {file: file.read_bytes() for file in pages(folder)}


def test_long_tables_are_folded_and_numbers_are_right_aligned(published):
    text = (published[-1] / "report.html").read_text()
    tasks, main = (re.search(rf'<article class="figure" id="table-{n}">.*?</article>', text, re.S)[0] for n in (2, 3))
    for part in (tasks, main):
        rows = part.count("<tr>") - 1
        assert (f"Show its {rows} rows" in part) == (rows > html_page.FOLDED)
    cells = re.findall(r'<td class="n">([^<]*)</td>', main)
    assert len(cells) > 10 and all(re.match(r"[-\d]", cell) for cell in cells)
    assert 'class="box"' in tasks and '<th scope="col"' in tasks


def test_colours_have_contrast_in_light_and_dark_mode():
    """WCAG 2 AA: text has a contrast of 4.5 to 1 with its background. https://www.w3.org/TR/WCAG22/#contrast-minimum"""
    css = (paths.PACKAGE / "report/pages/templates" / "page.css").read_text()
    schemes = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    light, dark, _ = (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", scheme)) for scheme in schemes)
    letters = [(ink, back) for ink in ("ink", "soft", "link") for back in ("paper", "card", "faint", "code")]
    letters += [(name, f"{name}-back") for name in ("yes", "no", "open", "none")]
    letters += [(name, "code") for name in ("kw", "str", "com", "num", "fn")]
    for scheme in (light, dark):
        assert min((contrast(scheme[a], scheme[b]), a, b) for a, b in letters) > (4.5,)


def contrast(a: str, b: str) -> float:
    dim, bright = sorted(luminance(colour) for colour in (a, b))
    return (bright + 0.05) / (dim + 0.05)


def luminance(colour: str) -> float:
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_a_caption_is_split_at_its_headings():
    assert html_page.caption_parts("**Question.** Why? **n.** 3 **bold** things. Leak.") == [
        ("Question", "Why?"), ("n", "3 **bold** things. Leak.")
    ]
    assert html_page.caption_parts("Just words.") == [("", "Just words.")]


def test_cells_of_a_table_are_escaped():
    cells = [r"a\|b", "*x* _y_ `z`", "[l](http://x)", "<b>", "&lt;", "![i](u)", "back\\slash"]
    shown = Elements(markdown.render(markdown.literal("| h |\n| --- |\n" + "\n".join(f"| {cell} |" for cell in cells))))
    assert not {"a", "em", "code", "b", "img"} & {tag for tag, _ in shown.all}
    assert [line for line in shown.text.split("\n") if line][1:] == ["a|b", *cells[1:]]


def test_markdown_loads_no_picture_and_keeps_html_as_text():
    shown = Elements(markdown.render("![far](https://example.org/x.png) <b>b</b> **c**"))
    assert [tag for tag, _ in shown.all] == ["p", "strong"] and shown.text.split() == ["far", "<b>b</b>", "c"]


def test_cleaning_keeps_tables_and_removes_scripts():
    table = '<table onclick="x()"><tr><th rowspan="2">a</th></tr></table>'
    dirty = f'{table}<a href="javascript:x">l</a><svg><script>y</script></svg>'
    assert notebook_page.clean(dirty) == '<table><tbody><tr><th rowspan="2">a</th></tr></tbody></table><a>l</a>'
