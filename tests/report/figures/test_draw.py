"""Figures, tested by their artists: data drawn, labels, readability."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image

from medstudy.errors import ParamsError
from medstudy.report import captions, figures, style
from medstudy.report.figures import mismatch_heatmap, native_vs_fixed, resolution_curves, what_models_see
from medstudy.report.study_data import StudyData
from tests.support.scored_study import LEAKS, study
from tests.support.synthetic import ARMS, REGIMES

SMALLEST_FONT = 5.5


@pytest.fixture(scope="module")
def small():
    return study((*REGIMES, *ARMS))


@pytest.fixture(scope="module")
def drawn(small):
    """name -> (table, figure) at low resolution; `figure.written` holds (words, font size, box) of each text."""
    tables_and_figures = {}
    for name, entry in figures.REGISTRY.items():
        table = entry.build(small)
        with style.context():
            figure = entry.draw(table, small)
            figure.set_dpi(60)
            figure.written = _written(figure)
        tables_and_figures[name] = (table, figure)
    return tables_and_figures


def _written(figure) -> list[tuple]:
    """The texts on the page, without tick labels outside the view and those of hidden axes."""
    canvas, texts = FigureCanvasAgg(figure), []
    with pytest.MonkeyPatch.context() as patch:
        real = Text.draw
        patch.setattr(Text, "draw", lambda text, renderer: (texts.append(text), real(text, renderer)))
        canvas.draw()
    return [
        (text.get_text(), text.get_fontsize(), text.get_window_extent(canvas.get_renderer()))
        for text in dict.fromkeys(texts)
        if text.get_text().strip() and text.get_visible()
    ]


@pytest.mark.parametrize("name", figures.REGISTRY)
def test_units_are_given_and_the_figure_fits_two_columns(drawn, name):
    figure = drawn[name][1]
    words = " ".join(text for text, *_ in figure.written)
    assert any(unit in words for unit in ("%", "points", "px", "tokens", "nats"))
    assert figure.get_size_inches()[0] <= style.DOUBLE + 0.01


@pytest.mark.parametrize("name", figures.REGISTRY)
def test_no_two_texts_overlap_and_none_is_too_small(drawn, name):
    written = drawn[name][1].written
    assert written and all(size >= SMALLEST_FONT for _, size, _ in written)
    boxes = [(text, box.padded(-1.0)) for text, _, box in written]
    assert not [(a, b) for (a, box), (b, other) in combinations(boxes, 2) if box.overlaps(other)]


@pytest.mark.parametrize("name", ["03_native_vs_fixed", "04_mismatch_heatmap", "12_learning_curves"])
def test_a_leak_is_written_below_the_figure_without_overlap(small, name, tmp_path):
    entry, words = figures.REGISTRY[name], replace(small, leaks=LEAKS).leak_words * 3
    with style.context():
        figure = entry.draw(entry.build(small), small)
        page = style.footnote(figure, words)
        figure.set_dpi(60)
        written = _written(figure)
    (note,) = [box for text, _, box in written if text.startswith("Leak: 3 of 12")]
    assert words in {" ".join(text.split()) for text, *_ in written}
    assert 60 * page.y0 <= note.y0 and note.y1 <= 0.5 and note.x1 <= 60 * page.x1
    assert all(box.y0 > -1 for _, _, box in written if box is not note)
    with_it = figures.render(name, replace(small, leaks=LEAKS), tmp_path / "with").files[1]
    without = figures.render(name, small, tmp_path / "without").files[1]
    with Image.open(with_it) as leaking, Image.open(without) as clean:
        assert leaking.height > clean.height and abs(leaking.width - clean.width) <= 1


@pytest.mark.parametrize("name", figures.REGISTRY)
def test_no_text_leaves_the_page(drawn, name):
    figure = drawn[name][1]
    width, height = figure.canvas.get_width_height()
    outside = [text for text, _, box in figure.written
               if box.x0 < -2 or box.y0 < -2 or box.x1 > width + 2 or box.y1 > height + 2]
    assert not outside


def test_every_bar_of_the_native_sizes_stays_inside_its_panel(drawn):
    table, figure = drawn["01_native_sizes"]
    highest = table.loc[table["family"] != "budget", "share"].max()
    tops = [ax.get_ylim()[1] for ax in figure.axes]
    assert min(tops) >= highest > 0.5 * max(tops)


def test_one_curve_per_regime_with_one_point_per_rung(drawn):
    table, figure = drawn["06_resolution_curves"]
    for ax in figure.axes:
        lines = [line for line in ax.get_lines() if len(line.get_xdata()) == 6]
        assert len(lines) == 5
        assert (
            len({to_hex(line.get_color()) for line in lines})
            == len({line.get_marker() for line in lines})
            == 5
        )
        assert len(ax.collections) == 5  # the bands


def test_curves_show_the_numbers_of_the_table(drawn):
    table, figure = drawn["06_resolution_curves"]
    chosen = table.query("dataset == 'phantom' and level == 'fine' and regime == 'mixed'").sort_values(
        "side_px"
    )
    colour = style.regime_style("mixed")["color"]
    line = next(x for x in figure.axes[0].get_lines() if x.get_color() == colour and len(x.get_xdata()) == 6)
    assert np.allclose(line.get_ydata(), chosen["estimate"]) and np.allclose(
        line.get_xdata(), chosen["side_px"]
    )


def test_the_dataset_panels_are_named(drawn):
    for name in ("03_native_vs_fixed", "06_resolution_curves", "11_size_strata", "13_controls"):
        titles = " ".join(ax.get_title(loc="left") for ax in drawn[name][1].axes)
        assert "phantom" in titles and "atlas" in titles


def test_the_heatmap_writes_estimate_and_half_width_in_every_cell(drawn):
    table, figure = drawn["04_mismatch_heatmap"]
    cells = [t.get_text() for ax in figure.axes for t in ax.texts if "±" in t.get_text()]
    assert len(cells) == len(table)
    first = table.query("dataset == 'phantom' and panel == 'all families' and regime == 'native'").iloc[0]
    half = 50 * (first["high"] - first["low"])
    assert f"{100 * first['estimate']:.0f}±{half:.0f}" in cells


def test_the_heatmap_frames_aligned_cells_only(drawn):
    _, figure = drawn["04_mismatch_heatmap"]
    ax = figure.axes[0]
    frames = [patch.get_x() - 0.03 for patch in ax.patches]
    assert sorted(frames) == pytest.approx([1, 1, 5])  # 84², 84² at equal FLOPs, and native


def test_the_stack_ends_at_the_gain(drawn):
    """Bars of a line join without a gap, and their signed widths add up to the diamond."""
    table, figure = drawn["15_gain_in_parts"]
    ax = figure.axes[0]
    gains = next(line for line in ax.get_lines() if line.get_marker() == "D")
    bars = [(round(bar.get_y() + bar.get_height() / 2), bar) for bar in ax.patches]
    assert len(bars) == 3 * len(gains.get_xdata()) > 15
    for line, gain in enumerate(gains.get_xdata()):
        own = [bar for at, bar in bars if at == line]
        assert sum(bar.get_width() for bar in own) == pytest.approx(gain, abs=1e-12)
        ends = [np.array([bar.get_x(), bar.get_x() + bar.get_width()]) for bar in own]
        covered = sum(abs(bar.get_width()) for bar in own)
        assert np.ptp([*np.ravel(ends), 0]) == pytest.approx(covered)  # side by side from 0, none hides another
    fine = table.query("dataset == 'phantom' and level == 'fine' and task == 'all tasks'").set_index("part")
    assert gains.get_xdata()[0] == fine.loc["gain", "estimate"]
    points = [line for line in figure.axes[1].get_lines() if line.get_marker() in "odp"]
    assert [line.get_xdata()[0] for line in points] == fine.loc[
        ["information", "tokens and scale", "compute"], "estimate"].tolist()


def test_fine_rows_are_above_coarse_ones_in_another_colour(drawn):
    _, figure = drawn["03_native_vs_fixed"]
    ax = figure.axes[0]
    height = {style.FINE: [], style.COARSE: []}
    for container in ax.containers:
        points = container.lines[0]
        height[points.get_color()] += list(points.get_ydata())
    assert max(height[style.FINE]) < min(height[style.COARSE])
    assert ax.yaxis_inverted()


def test_the_model_s_pixels_are_drawn(small, drawn):
    table, figure = drawn["02_what_models_see"]
    first = table.iloc[0]
    pictures = [
        image for ax in figure.findobj(lambda a: hasattr(a, "get_images")) for image in ax.get_images()
    ]
    assert (first["shown_height"], first["shown_width"], 3) in {image.get_array().shape for image in pictures}
    pixels = what_models_see.shown(small.images[first["dataset"], first["image_id"]], 28, 56, "bicubic")
    assert pixels.shape == (28, 56, 3) and pixels.dtype == np.uint8


def test_every_caption_has_question_method_n_and_reading(small, drawn):
    for name, entry in figures.REGISTRY.items():
        words = entry.caption(drawn[name][0], small)
        for part in ("**Question.**", "**Method.**", "**n.**", "**How to read it.**", "interval"):
            assert part in words, (name, part)
        assert (
            re.search(r"\d", words) and "nan" not in words.replace("nano", "") and "inf" not in words.split()
        )


def test_a_study_of_one_data_set_and_regime_is_drawn(small):
    few = small.scores.query("dataset == 'phantom' and regime == 'native' and control == 'none'")
    bare = StudyData(few)
    for module in (resolution_curves, mismatch_heatmap):
        with style.context():
            assert module.draw(module.build(bare)).axes
    assert native_vs_fixed.build(bare).empty
    assert captions.count_words(few).startswith("phantom: ")


def test_render_explains_a_missing_figure_and_writes_the_others(small, tmp_path):
    few = StudyData(small.scores[small.scores["control"] == "none"])
    rendered = figures.render("06_resolution_curves", few, tmp_path)
    assert sorted(path.suffix for path in rendered.files) == [".csv", ".md", ".pdf", ".png"]
    assert all(path.stat().st_size for path in rendered.files)
    assert figures.render("13_controls", few, tmp_path).missing


def test_an_unknown_figure_is_an_error_that_lists_the_known():
    with pytest.raises(ParamsError, match="06_resolution_curves"):
        figures.render("resolution", StudyData(None), ".")
