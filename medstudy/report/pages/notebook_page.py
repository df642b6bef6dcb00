"""Executed notebooks as HTML that opens offline: code and outputs, without scripts, styles and external pictures."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import nbformat
import nh3

TAGS = set(
    "a b blockquote br caption code dd details div dl dt em h1 h2 h3 h4 h5 h6 hr i li ol p pre s span strong sub "
    "summary sup table tbody td tfoot th thead tr ul".split()
)
ATTRIBUTES = {"*": {"class", "id"}, "a": {"href"}, "td": {"colspan", "rowspan"}, "th": {"colspan", "rowspan", "scope"}}
PICTURES = frozenset({"image/png", "image/jpeg"})
SHOWN = ("text/html", "text/markdown", "text/plain", *sorted(PICTURES))


def converter() -> Callable[[Path], str]:
    """A function that converts an executed notebook to the HTML of its body; importing nbconvert takes a second."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="basic", sanitize_html=True, exclude_input_prompt=True, exclude_output_prompt=True
    )
    exporter.register_filter("clean_html", clean)

    def convert(file: Path) -> str:
        return exporter.from_notebook_node(_shown(nbformat.read(file, as_version=4)))[0]

    return convert


@lru_cache(maxsize=4096)  # many notebooks share most cells
def clean(text: str | bytes) -> str:
    """HTML reduced to text, tables and links: nothing runs, nothing is fetched."""
    text = text.decode() if isinstance(text, bytes) else text
    return nh3.clean(text, tags=TAGS, attributes=ATTRIBUTES, clean_content_tags={"script", "style"}, link_rel=None)


def _shown(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with only the outputs that a page can show; a picture's alternative text is the heading above it."""
    heading = "the notebook"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = next(iter(re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)[-1:]), heading)
        for output in cell.get("outputs", []):
            if "data" in output:
                output.data = nbformat.NotebookNode({kind: output.data[kind] for kind in SHOWN if kind in output.data})
            for kind in PICTURES & set(output.get("data", ())):
                output.metadata.setdefault(kind, nbformat.NotebookNode())["alt"] = f"Picture under: {heading}"
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("data", True)]
    return notebook
