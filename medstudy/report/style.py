"""The style of every figure: sizes, fonts, and a colour and marker for each regime, safe for colour-blind readers."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from contextlib import AbstractContextManager

import matplotlib
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

SINGLE, DOUBLE = 3.35, 7.0  # inches: one and two columns of a journal page
PNG_DPI = 200

# Okabe and Ito (2008), https://jfly.uni-koeln.de/color/; matplotlib ships it from 3.11 on
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)
GREY = "#767676"
FINE, COARSE = BLUE, GREY
LEVELS = {"fine": FINE, "coarse": COARSE, "unknown": ORANGE}  # of questions, in display order
LEVEL_WORDS = {"fine": "fine questions", "coarse": "coarse questions", "unknown": "questions"}
DIVERGING, SEQUENTIAL = "PuOr", "cividis"

_REGIMES = {
    "native": (BLUE, "o"),
    "mixed": (GREEN, "D"),
    "add": (PURPLE, "^"),
    "curriculum": (SKY, "P"),
    "down_up": (ORANGE, "d"),
    "equal_flops": (BLACK, "p"),
    "base": (GREY, "X"),
    "pool": (SKY, "H"),
    "prune": (PURPLE, "h"),
    "zoom": (YELLOW, "8"),
    "pan_and_scan": (YELLOW, "H"),
    "spacing": (SKY, "8"),
}
_WHOLE = ("native", "fixed", "square", "pad")  # kinds of rungs that show whole images in all their visual tokens
_PARTS = ("pool", "prune", "zoom", "pan_and_scan", "spacing")  # kinds that show parts, or fewer tokens
_RUNGS = ((VERMILLION, "s"), (ORANGE, "v"), (YELLOW, "<"), (BLACK, ">"))
_LOW_TO_HIGH = (84, 168, 56, 112)  # the offline studies' rungs, each with a look of its own
_LOW_TO_HIGH_LARGE = (224, 448, 672, 1000)

_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.visible": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "errorbar.capsize": 0,
    "savefig.dpi": PNG_DPI,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "medstudy",
    "text.parse_math": False,
}


def context() -> AbstractContextManager:
    """A context with the settings of every figure: `with style.context(): ...`."""
    return matplotlib.rc_context(_RC)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches with constrained layout; without pyplot, so it needs no closing."""
    return Figure(figsize=(width, height), layout=RepeatableLayout())


class RepeatableLayout(ConstrainedLayoutEngine):
    """Constrained layout with rounded positions, so that the same data give the same bytes.

    Its solver (kiwisolver) orders terms by memory address: positions differ by 1e-14 between processes, and glyphs,
    which are drawn at fractions of a pixel, by a few grey levels.
    """

    def execute(self, fig: Figure) -> object:
        """Lay out the figure and its subfigures, then round their positions (fractions of their parent)."""
        margins = super().execute(fig)
        for part in fig.subfigs:
            part.bbox_relative.set_points(part.bbox_relative.get_points().round(9))
        for ax in fig.axes:  # as the engine itself sets positions: `set_position` would end the layout
            ax._set_position(Bbox(ax.get_position(original=True).get_points().round(9)), which="original")
        return margins


def rung(policy: str) -> int | None:
    """The side R of a policy label such as "fixed-84" (at most R x R pixels); None for "native" and the like."""
    match = re.fullmatch(r"[a-z_]+-(\d+)", policy)
    return int(match.group(1)) if match else None


def kind(policy: str) -> str:
    """The kind of a policy by its label: "fixed" of "fixed-84", "equal_flops" of "equal_flops_square-84"."""
    if part := next((name for name in _PARTS if re.match(rf"{name}(?![a-z])", policy)), None):
        return part
    name = policy if rung(policy) is None else policy.rsplit("-", 1)[0]
    return "equal_flops" if name.startswith("equal_flops") else name


def whole(policy: str) -> bool:
    """Whether a rung shows whole images in all their visual tokens: only these are points of one line."""
    return kind(policy) in _WHOLE


def own_view(regime: str) -> str:
    """The label of what a regime shows: "fixed-84" of "equal_flops-84", the regime's own label of any other."""
    if regime.startswith("equal_flops-"):
        return regime.replace("equal_flops", "fixed")
    return regime.removeprefix("equal_flops_")


def rung_label(policy: str) -> str:
    """A policy as an axis shows it: "fixed-84" -> "84²", "square-84" -> "square 84²", "native" -> "native"."""
    side = rung(policy)
    if kind(policy) in _PARTS:
        words = policy.replace("-", " ").replace("_", " ")
        return f"{words}²" if side and kind(policy) == "zoom" else words
    if side is None:
        return policy
    return f"{side}²" if kind(policy) == "fixed" else f"{kind(policy).replace('_', '-')} {side}²"


def regime_label(regime: str) -> str:
    """A training policy as a legend shows it: "fixed-84" -> "fixed 84²", "add-84" -> "native + 84²"."""
    side = rung(regime)
    if side is None:
        return "not fine-tuned" if regime == "base" else rung_label(regime)
    if kind(regime) == "equal_flops":
        return f"{rung_label(own_view(regime))} equal FLOPs"
    return f"native + {side}²" if kind(regime) == "add" else f"{kind(regime).replace('_', '-')} {side}²"


def regime_style(regime: str) -> dict[str, str]:
    """The colour and marker of a regime, the same in every figure: keywords of `Axes.plot`."""
    colour, marker = _REGIMES.get(kind(regime)) or _rung_style(rung(regime))
    return {"color": colour, "marker": marker}


def _rung_style(side: int | None) -> tuple[str, str]:
    for ladder in (_LOW_TO_HIGH, _LOW_TO_HIGH_LARGE):
        if side in ladder:
            return _RUNGS[ladder.index(side)]
    return BLACK, "*"


def levels(table: pd.DataFrame) -> list[str]:
    """The levels of questions in a table, in display order."""
    return [level for level in LEVELS if (table["level"] == level).any()]


def regime_order(regimes: Iterable[str]) -> list[str]:
    """Regimes in the order of every legend: native, its arms, fixed from low to high, mixed, add, curriculum, base."""
    first = ["native", "down_up", "equal_flops", "fixed", "square", "pad", "mixed", "add", "curriculum", "base"]

    def place(regime: str) -> tuple[int, int, str]:
        name = kind(regime)
        return (first.index(name) if name in first else len(first), rung(regime) or 0, regime)

    return sorted(set(regimes), key=place)


def percent_axis(axis: Axis, points: bool = False) -> None:
    """Tick labels in per cent for scores in [0, 1], or in signed percentage points for their differences."""
    def form(value: float, _: int) -> str:
        if points:
            return f"{100 * value:+.3g}" if abs(value) > 1e-9 else "0"
        return f"{100 * value:.3g}"

    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(form))


def rung_axis(ax: Axes, sizes: pd.DataFrame) -> None:
    """A log2 axis of shown sides with a tick for each rung, labelled with its budget and its mean visual tokens.

    sizes: one row per rung with `inference`, `side_px`, `tokens`. Rungs that nearly coincide, because few images are
    larger than the lower budget, share a tick.
    """
    places = np.log2(sizes["side_px"].to_numpy(float))
    apart = np.diff(places, prepend=-np.inf) > 0.05 * np.ptp(places)
    groups = [part for _, part in sizes.groupby(np.cumsum(apart))]
    ax.set_xscale("log", base=2)
    ax.set_xticks([part["side_px"].iloc[0] for part in groups], [_tick(part) for part in groups], fontsize=6.3)
    ax.xaxis.set_minor_locator(NullLocator())
    if len(groups[-1]) > 1:  # close to its neighbour, with space on its right
        ax.get_xticklabels()[-1].set_horizontalalignment("left")


def _tick(part: pd.DataFrame) -> str:
    names = [rung_label(policy) for policy in part["inference"]]
    return "\n".join([*names, " ".join(dict.fromkeys(f"{tokens:.0f}" for tokens in part["tokens"]))])


def heatmap(
    ax: Axes, grid: pd.DataFrame, text: pd.DataFrame, low: float, high: float, fontsize: float, **look: object
) -> QuadMesh:
    """Cells coloured from `low` to `high`, labelled with `text`, policies as columns; returns their mesh.

    look: further arguments of seaborn.heatmap.
    """
    seaborn.heatmap(
        grid.astype(float), ax=ax, annot=text, fmt="", annot_kws={"fontsize": fontsize}, cbar=False, cmap=SEQUENTIAL,
        vmin=low, vmax=high, xticklabels=[rung_label(policy).replace(" ", "\n") for policy in grid.columns], **look,
    )
    ax.set(xlabel="", ylabel="")
    ax.tick_params(length=0, rotation=0)
    return ax.collections[0]


def regime_legend(fig: Figure, regimes: list[str], columns: int = 6) -> None:
    """One legend above all panels: regimes with their colours and markers."""
    handles = [Line2D([], [], label=regime_label(r), **regime_style(r)) for r in regimes]
    fig.legend(handles=handles, loc="outside upper center", ncols=min(columns, len(handles)), title="trained at")


def footnote(fig: Figure, text: str) -> Bbox | None:
    """Write a warning below a figure; returns the page that includes it, in inches. Without text: None."""
    if not text:
        return None
    width, height = fig.get_size_inches()
    lines = textwrap.wrap(text, int(width * 24))
    fig.text(0.01, 0, "\n".join(lines), va="top", fontsize=5.5, linespacing=1.2, color=VERMILLION)
    below = 0.05 + len(lines) * 5.5 * 1.3 / 72
    return Bbox([[0, -below], [width, height]])


def letter(ax: Axes, index: int, title: str = "") -> None:
    """Title a panel with a bold letter and a title."""
    ax.set_title(f"{chr(ord('a') + index)}  {title}".rstrip(), loc="left", fontweight="bold")
