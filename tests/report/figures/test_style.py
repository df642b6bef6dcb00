"""Colours, labels and saved bytes."""

from __future__ import annotations

import hashlib

import matplotlib
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from medstudy.report import save, style
from medstudy.report.figures import what_models_see

REGIMES = ["native", "equal_flops-84", "fixed-84", "fixed-168", "mixed", "add-84", "curriculum", "base"]


def test_every_regime_has_its_own_colour_and_marker():
    looks = [style.regime_style(regime) for regime in REGIMES]
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == len(REGIMES)


def test_the_arms_of_a_study_have_their_own_colours_and_markers():
    looks = [style.regime_style(regime) for regime in ("native", "down_up-84", "equal_flops-84", "fixed-84", "mixed")]
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == 5
    assert {look["marker"] for look in looks} <= set(what_models_see.GLYPHS)


@pytest.mark.skipif("okabe_ito" not in matplotlib.color_sequences, reason="needs matplotlib 3.11")
def test_colours_are_those_of_okabe_and_ito():
    published = {to_rgb(colour) for colour in matplotlib.color_sequences["okabe_ito"]}
    used = {to_rgb(style.regime_style(regime)["color"]) for regime in REGIMES} - {to_rgb(style.GREY)}
    assert used <= published


@pytest.mark.parametrize(
    ("policy", "label"),
    [("fixed-84", "84²"), ("square-84", "square 84²"), ("down_up-168", "down-up 168²"), ("native", "native"),
     ("zoom-112", "zoom 112²"), ("zoom_attention-112", "zoom attention 112²"), ("pool-2x2", "pool 2x2"),
     ("prune_even-25pct", "prune even 25pct"), ("spacing-2um-of-500um", "spacing 2um of 500um"),
     ("pan_and_scan", "pan and scan")],
)
def test_rung_labels(policy, label):
    assert style.rung_label(policy) == label


@pytest.mark.parametrize(
    ("regime", "label"),
    [("fixed-84", "fixed 84²"), ("add-84", "native + 84²"), ("base", "not fine-tuned"), ("mixed", "mixed"),
     ("down_up-84", "down-up 84²"), ("equal_flops-84", "84² equal FLOPs"),
     ("equal_flops_square-84", "square 84² equal FLOPs")],
)
def test_regime_labels(regime, label):
    assert style.regime_label(regime) == label


def test_rungs_of_parts_have_looks_of_their_own_and_stand_beside_the_line():
    parts = ("pool-2x2", "prune-25pct", "zoom-112", "pan_and_scan", "spacing-2um")
    looks = [tuple(style.regime_style(regime).values()) for regime in (*REGIMES, *parts)]
    assert len(set(looks)) == len(looks)
    assert not any(map(style.whole, parts))
    assert all(map(style.whole, ("native", "fixed-84", "square-84", "pad-84"))) and style.kind("zoom_own-84") == "zoom"


def test_regimes_have_one_order():
    assert style.regime_order(reversed(REGIMES)) == REGIMES
    assert style.regime_order(["fixed-168", "fixed-84", "fixed-1000"]) == [
        "fixed-84",
        "fixed-168",
        "fixed-1000",
    ]


def test_rungs_that_nearly_coincide_share_a_tick():
    with style.context():
        ax = style.new_figure(3, 2).subplots()
        sizes = {
            "inference": ["fixed-56", "fixed-224", "native"],
            "side_px": [56, 200, 201],
            "tokens": [4, 39, 39.2],
        }
        style.rung_axis(ax, pd.DataFrame(sizes))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["56²\n4", "224²\nnative\n39"]


def _saved(folder):
    with style.context():
        figure = style.new_figure(2, 2)
        figure.subplots().plot([1, 2], [3, 4])
        paths = save.save(figure, pd.DataFrame({"x": [1 / 3]}), "Title", "Caption.", folder, "01_x")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_the_same_figure_is_saved_as_the_same_bytes(tmp_path):
    first, second = _saved(tmp_path / "a"), _saved(tmp_path / "b")
    assert first == second
    assert sorted(first) == ["01_x.csv", "01_x.md", "01_x.pdf", "01_x.png"]


def test_positions_are_rounded_so_that_memory_addresses_do_not_change_bytes(tmp_path):
    """The layout solver's last digits differ between processes; axes of subfigures have thirds as positions."""
    with style.context():
        figure = style.new_figure(3, 3)
        parts = figure.subfigures(3, 1, height_ratios=[0.3, 1, 0.7])
        axes = [ax for part in parts for ax in part.subplots(1, 3)]
        save.save(figure, pd.DataFrame({"x": [1]}), "Title", "Caption.", tmp_path, "01_x")
    bounds = [ax.get_position(original=True).get_points() for ax in axes]
    bounds += [part.bbox_relative.get_points() for part in parts]
    assert all((points == points.round(9)).all() for points in bounds)
    assert len({points.tobytes() for points in bounds}) > 9  # laid out


def test_pdf_fonts_are_embedded_as_truetype(tmp_path):
    _saved(tmp_path)
    content = (tmp_path / "01_x.pdf").read_bytes()
    assert b"/Type3" not in content and b"CreationDate" not in content


def test_markdown_folds_intervals_and_escapes_bars():
    table = pd.DataFrame(
        {"task": ["a|b", "c"], "gain_points": [1.26, float("nan")], "gain_points_low": [0.5, float("nan")],
         "gain_points_high": [2.0, float("nan")], "p": [0.0002, 0.04], "rho": [0.5, 1.0], "n": [3, 4]}
    )
    head, rule, first, second = save.markdown(table).split("\n")
    assert head == "| task | gain_points | p | rho | n |"
    assert first == "| a\\|b | 1.3 [0.5, 2.0] | < 0.001 | 0.50 | 3 |"
    assert second == "| c | – | 0.040 | 1.00 | 4 |"


def test_every_marker_has_a_sign_for_texts():
    """Figure 2 writes the marker of a regime before its answer."""
    looks = [*style._REGIMES.values(), *style._RUNGS, (style.BLACK, "*")]
    assert {marker for _, marker in looks} <= set(what_models_see.GLYPHS)
