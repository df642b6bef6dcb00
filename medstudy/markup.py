"""Markdown, pictures and files of this machine as they may stand in a page that is sent to others."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mistune
from PIL import Image

from medstudy.figures.style import PNG_DPI

CSS_PIXELS = 90  # of an inch of a figure, at least: its letters of 7 points are then 9 pixels high
EFFORT = 50  # of packing a picture without loss, of 100
NUMBERS = re.compile(r"[-+–\d.,/<>%±\s]+")  # a cell of several numbers: not to be broken
LONG = 32  # characters of a cell that gets room


@dataclass(frozen=True)
class Embedded:
    """A picture as a data URI; width and height in its own pixels, inches as it would be printed."""

    uri: str
    width: int
    height: int

    @property
    def least(self) -> int:
        """CSS pixels of width below which its letters are too small to read."""
        return round(self.width / PNG_DPI * CSS_PIXELS)


def render(markdown: str) -> str:
    """Markdown as HTML: what is HTML in it is shown as text, no picture is loaded, a table scrolls in its own box."""
    return _reader()(markdown)


def inline(markdown: str) -> str:
    """One paragraph of Markdown as HTML without the paragraph."""
    return render(markdown).strip().removeprefix("<p>").removesuffix("</p>")


def literal(table: str) -> str:
    """A Markdown table of which every cell is shown as it is written: data are no Markdown."""
    return re.sub(r"\\(?!\|)|[*_`\[\]<>&~!]", r"\\\g<0>", table)


def plain(markdown: str) -> str:
    """Markdown as text, for an alternative text."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", render(markdown))).split())


def embedded(file: Path) -> Embedded:
    """A PNG in a third of its bytes, every pixel as it was."""
    with Image.open(file) as image, io.BytesIO() as stream:
        image.convert("RGB").save(stream, "WEBP", lossless=True, quality=EFFORT)
        data = base64.b64encode(stream.getvalue()).decode()
        return Embedded(f"data:image/webp;base64,{data}", *image.size)


@cache
def _reader() -> mistune.Markdown:
    reader = mistune.create_markdown(renderer=_Renderer(escape=True), plugins=["table"])
    reader.renderer.register("table", _table)
    reader.renderer.register("table_cell", _cell)
    return reader


class _Renderer(mistune.HTMLRenderer):
    def image(self, text: str, url: str, title: str | None = None) -> str:
        return text


def _table(renderer, text: str) -> str:
    return f'<div class="box" tabindex="0" role="region" aria-label="table">\n<table>\n{text}</table>\n</div>\n'


def _cell(renderer, text: str, align: str | None = None, head: bool = False) -> str:
    kind = "n" if align == "right" else "short" if NUMBERS.fullmatch(text) else "long" if len(text) > LONG else ""
    kind = f' class="{kind}"' if kind else ""
    return f'<th scope="col"{kind}>{text.replace("_", "_<wbr>")}</th>\n' if head else f"<td{kind}>{text}</td>\n"
