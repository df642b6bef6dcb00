"""An estimate as text: a table with one row for all seeds of a job, the totals, and where the numbers come from."""

from __future__ import annotations

import math

import pandas as pd
from rich.table import Table

from medstudy.costs.estimate import MB, grouped
from medstudy.data.example import SPLITS
from medstudy.utils.formatting import duration, size


def table(frame: pd.DataFrame) -> Table:
    """Predictions for the jobs with a model; once one has run, measurements of all finished jobs next to them."""
    rows = grouped(frame)
    rows = rows[rows["seconds"].notna() | (rows["done"] > 0)]
    measured = bool(rows.loc[rows["seconds"].notna(), "done"].any())
    rows = rows if measured else rows[rows["seconds"].notna()]
    headings = ["job", "seeds", "images", "questions", "visual tokens", "TFLOPs", "time", "memory MB", "disk MB"]
    headings += ["done", "measured", "ratio", "memory MB", "ratio", "TFLOP/s"] if measured else []
    table = Table(*headings, caption="each row: one job, the mean over its seeds")
    for row in rows.itertuples():
        disk = sum(part for part in (row.checkpoint_mb, row.cache_mb) if part > 0) or math.nan
        counts = (_number(value) for value in (row.images, row.questions, row.visual_tokens))
        cells = [row.job, str(row.seeds), *counts, _number(row.flops / 1e12, 3), duration(row.seconds),
                 _number(row.memory_mb), _number(disk)]
        if measured:
            cells += [str(row.done), duration(row.measured_seconds), _ratio(row.seconds_ratio),
                      _number(row.measured_memory_mb), _ratio(row.memory_ratio),
                      _number(row.measured_tflops, 3)]
        table.add_row(*cells)
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def summary(frame: pd.DataFrame, totals: dict[str, float]) -> list[str]:
    """Lines of text: the totals, the data and the models that they cover, and where the seconds come from."""
    models, count = frame.attrs.get("models", [frame.attrs]), totals["at_once"]
    jobs = f"{count} {'job' if count == 1 else 'jobs'} at once"
    device = {"cpu": "processes on the CPU", "cuda": "CUDA", "stated": "of the stated device"}[models[0]["device"]]
    return [
        f"{frame.attrs['study']}: {totals['jobs']} jobs, {totals['done']} done; "
        f"{_number(totals['flops'] / 1e12, 4)} TFLOPs.",
        f"Work: {duration(totals['seconds'])} of one device, {duration(totals['wall_seconds'])} with {jobs}; left: "
        f"{duration(totals['seconds_left'])}, {duration(totals['wall_seconds_left'])} with {jobs}. "
        "Only jobs with a model are predicted.",
        f"Disk: {size(totals['disk_mb'] * MB)} without the data. Memory: {size(totals['memory_mb'] * MB)} for the "
        f"largest {count} {'job' if count == 1 else 'jobs'} ({device}).",
        *_bound(models[0]["data"]),
        *map(_of_data, models[0]["data"]),
        *(line for about in models for line in _of_model(about)),
    ]


def on_cpu(frame: pd.DataFrame) -> bool:
    """Whether the estimate is for processes on this machine's CPU."""
    return frame.attrs.get("models", [frame.attrs])[0]["device"] == "cpu"


def _bound(data: list[dict]) -> list[str]:
    """A total that leaves data out is a lower bound."""
    left = [about["dataset"] for about in data if "NOT COUNTED" in about["from"]]
    return [f"AT LEAST: images of {', '.join(left)} are not counted (below)."] if left else []


def _of_data(about: dict) -> str:
    """The counted images and questions of a data set, and where the counts come from."""
    parts = [
        f"{split} {_number(about['images'][split])} images with {_number(about['questions'][split])} questions"
        for split in SPLITS
        if about["images"][split]
    ]
    return f"{about['dataset']}: {', '.join(parts)} ({about['from']})."


def _of_model(about: dict) -> list[str]:
    """The weights of a model, and the pace of its jobs."""
    speed, weights = about["speed"], about["weights"]
    if speed["source"] == "unknown":
        return [f"{about['model']}. Seconds are unknown: {speed['basis']}."]
    parts = ", ".join(f"{name} {number:,}" for name, number in weights.items())
    paces = "; ".join(
        f"{stage} {pace['overhead']:.1f} s a job + {pace['turn'] * 1e3:.1f} ms a turn + {_rate(pace['rate'])}"
        for stage, pace in ((stage, speed[stage]) for stage in ("train", "evaluate", "probe") if stage in speed)
    )
    lines = [
        f"{about['model']}. Weights: {parts}; {about['trained']:,} of {sum(weights.values()):,} are trained"
        f"{', including adapters' if about['adapters'] else ''}. Seconds are {speed['source']}, from "
        f"{speed['basis']}: {paces}.",
    ]
    if speed["source"] == "measured":
        lines.append("For jobs used in the fit, the ratio is goodness of fit, not prediction error.")
    return lines


def _number(value: float, digits: int = 0) -> str:
    """With separators of thousands. digits: significant digits of a number below 1000; 0 rounds to a whole number."""
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if not digits or value >= 1000 else f"{value:.{digits}g}"


def _ratio(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _rate(rate: float | None) -> str:
    return "nothing for FLOPs" if rate is None else f"FLOPs at {rate / 1e12:.3g} TFLOP/s"
