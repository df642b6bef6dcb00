"""An estimate as text: a table with one row a job, equal jobs of all seeds as one, and what it rests on."""

from __future__ import annotations

import math

import pandas as pd
from rich.table import Table

from medstudy.costs.estimate import MB, grouped
from medstudy.data.example import SPLITS
from medstudy.utils.formatting import duration, size


def table(frame: pd.DataFrame) -> Table:
    """The jobs with a model, predicted; once one of them has run, all that have run measured beside it."""
    rows = grouped(frame)
    rows = rows[rows["seconds"].notna() | (rows["done"] > 0)]
    measured = bool(rows.loc[rows["seconds"].notna(), "done"].any())
    rows = rows if measured else rows[rows["seconds"].notna()]
    heads = ["job", "seeds", "images", "questions", "visual tokens", "TFLOPs", "time", "memory MB", "disk MB"]
    made = Table(*heads, *(["done", "measured", "ratio", "memory MB", "ratio", "TFLOP/s"] if measured else []),
                 caption="each row: one job, the mean over its seeds")
    for row in rows.itertuples():
        disk = sum(part for part in (row.checkpoint_mb, row.cache_mb) if part > 0) or math.nan
        counts = (_number(value) for value in (row.images, row.questions, row.visual_tokens))
        cells = [row.job, str(row.seeds), *counts, _number(row.flops / 1e12, 3), duration(row.seconds),
                 _number(row.memory_mb), _number(disk)]
        if measured:
            cells += [str(row.done), duration(row.measured_seconds), _ratio(row.seconds_ratio),
                      _number(row.measured_memory_mb), _ratio(row.memory_ratio),
                      _number(row.measured_tflops, 3)]
        made.add_row(*cells)
    made.columns[0].no_wrap = True
    for column in made.columns[1:]:
        column.justify = "right"
    return made


def summary(frame: pd.DataFrame, totals: dict[str, float]) -> list[str]:
    """Totals, the data and the models they are of, and where the seconds come from."""
    models, count = frame.attrs.get("models", [frame.attrs]), totals["at_once"]
    device = {"cpu": "processes on the CPU", "cuda": "CUDA", "stated": "of the stated device"}[models[0]["device"]]
    return [
        f"{frame.attrs['study']}: {totals['jobs']} jobs, {totals['done']} done; "
        f"{_number(totals['flops'] / 1e12, 4)} TFLOPs.",
        f"Work {duration(totals['seconds'])} of one device, at {count} "
        f"{'job' if count == 1 else 'jobs'} at once {duration(totals['wall_seconds'])}; left "
        f"{duration(totals['seconds_left'])}, at {count} at once {duration(totals['wall_seconds_left'])}. "
        "Only jobs with a model are predicted.",
        f"Disk {size(totals['disk_mb'] * MB)} with data left out; memory of the largest {count} "
        f"{size(totals['memory_mb'] * MB)} ({device}).",
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
    """What is counted of a data set, and on what that rests."""
    parts = [
        f"{split} {_number(about['images'][split])} images with {_number(about['questions'][split])} questions"
        for split in SPLITS
        if about["images"][split]
    ]
    return f"{about['dataset']}: {', '.join(parts)} ({about['from']})."


def _of_model(about: dict) -> list[str]:
    speed, weights = about["speed"], about["weights"]
    parts = ", ".join(f"{name} {number:,}" for name, number in weights.items())
    paces = "; ".join(
        f"{stage} {pace['overhead']:.1f} s a job + {pace['turn'] * 1e3:.1f} ms a turn + {_rate(pace['rate'])}"
        for stage, pace in ((stage, speed[stage]) for stage in ("train", "evaluate"))
    )
    lines = [
        f"{about['model']}. Weights: {parts}; {about['trained']:,} of {sum(weights.values()):,} are trained"
        f"{', adapters among them' if about['adapters'] else ''}. Seconds are {speed['source']}, from "
        f"{speed['basis']}: {paces}.",
    ]
    if speed["source"] == "measured":
        lines.append("The ratios of jobs that the pace was fitted to say how well it fits, not how well it foretells.")
    return lines


def _number(value: float, digits: int = 0) -> str:
    """With thousands; digits: so many significant ones of a small number, 0 only whole ones."""
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if not digits or value >= 1000 else f"{value:.{digits}g}"


def _ratio(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _rate(rate: float | None) -> str:
    return "nothing for FLOPs" if rate is None else f"FLOPs at {rate / 1e12:.3g} TFLOP/s"
