"""The tables of docs/systems.md, from docs/systems.yaml. `python -m docs.systems` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from medstudy import paths
from medstudy.report.pages import readme

FILE, PAGE = paths.ROOT / "docs" / "systems.yaml", paths.ROOT / "docs" / "systems.md"
SERVER = {"family": "openai", "server": {"base_url": "http://127.0.0.1:8000/v1"}}  # of a system in `served`
HEADS = {
    "here": ("system", "what it is", "weights", "built from", "params", "limits"),
    "served": ("system", "what it is", "weights", "built from", "params", "limits"),
    "encoders": ("system", "what it is", "weights", "built from", "params", "limits"),
    "data": ("system", "what it is", "params", "limits"),
}


def systems(file: Path = FILE) -> dict[str, list[dict]]:
    """The rows of each part. Each has the params of its `model`, if it can be evaluated: of a served one, completed."""
    parts = yaml.safe_load(file.read_text(encoding="utf-8"))
    for row in parts["served"]:
        row["model"] = {"id": served_name(row)} | SERVER | row.get("model", {})
    return parts


def served_name(row: Mapping) -> str:
    """What the server is asked for: the first hub id, or the system's name in small letters."""
    weights, name = row["weights"], row["name"].split(" (")[0]
    return weights[0] if isinstance(weights, list) else name.lower().replace(" ", "-")


def table(part: str) -> str:
    """One part as Markdown."""
    rows = [HEADS[part], ["---"] * len(HEADS[part]), *(_cells(row, part) for row in systems()[part])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _cells(row: Mapping, part: str) -> list[str]:
    paper = row["paper"]
    link = f"[{paper}](https://arxiv.org/abs/{paper})" if paper[:4].isdigit() else paper
    about = [f"**{row['name']}**", f"{row['what']} ({link})"]
    if part != "data":
        weights = row["weights"]
        about += ["<br>".join(f"`{name}`" for name in weights) if isinstance(weights, list) else weights, row["built"]]
    params = [f"`{name}: {flow(row[name])}`" for name in ("model", "evaluation", "inference") if name in row]
    params += [f"`datasets: {flow(row['data'])}`"] if row.get("data") else []
    return [*about, "<br>".join(params) or "none", row["limits"]]


def flow(params: object) -> str:
    """Params on one line, as in a params file."""
    if isinstance(params, Mapping):
        return "{" + ", ".join(f"{name}: {flow(value)}" for name, value in params.items()) + "}"
    if isinstance(params, list):
        return "[" + ", ".join(map(flow, params)) + "]"
    plain = isinstance(params, str) and yaml.safe_load(f"[{params}]") == [params]
    return params if plain else json.dumps(params, ensure_ascii=False)


if __name__ == "__main__":
    for name in HEADS:
        readme.replace(name, table(name), PAGE)
