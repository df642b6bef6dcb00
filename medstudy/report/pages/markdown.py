"""Markdown, pictures and local paths prepared for a page that is shared."""

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

from medstudy.report.style import PNG_DPI

CSS_PIXELS = 90  # least CSS pixels for an inch of a figure: its 7-point letters are then 9 pixels high
EFFORT = 50  # of lossless compression, out of 100
NUMBERS = re.compile(r"[-+–\d.,/<>%±\s]+")  # a cell of several numbers, which does not wrap
LONG = 32  # characters from which a cell is wide


@dataclass(frozen=True)
class Embedded:
    """A picture as a data URI, with width and height in its own pixels."""

    uri: str
    width: int
    height: int

    @property
    def least(self) -> int:
        """The least width in CSS pixels at which its letters can be read."""
        return round(self.width / PNG_DPI * CSS_PIXELS)


def render(markdown: str) -> str:
    """Markdown as HTML: HTML in it is shown as text, pictures are not loaded, tables scroll in their own boxes."""
    return _reader()(markdown)


def inline(markdown: str) -> str:
    """One paragraph of Markdown as HTML without the paragraph's tags."""
    return render(markdown).strip().removeprefix("<p>").removesuffix("</p>")


def literal(table: str) -> str:
    """A Markdown table with every cell escaped: data are not Markdown."""
    return re.sub(r"\\(?!\|)|[*_`\[\]<>&~!]", r"\\\g<0>", table)


def plain(markdown: str) -> str:
    """Markdown as plain text, for an alternative text."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", render(markdown))).split())


def embedded(file: Path) -> Embedded:
    """A PNG as lossless WebP, a third of its size with the same pixels."""
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


def _table(renderer: mistune.HTMLRenderer, text: str) -> str:
    return f'<div class="box" tabindex="0" role="region" aria-label="table">\n<table>\n{text}</table>\n</div>\n'


def _cell(renderer: mistune.HTMLRenderer, text: str, align: str | None = None, head: bool = False) -> str:
    kind = "n" if align == "right" else "short" if NUMBERS.fullmatch(text) else "long" if len(text) > LONG else ""
    kind = f' class="{kind}"' if kind else ""
    return f'<th scope="col"{kind}>{text.replace("_", "_<wbr>")}</th>\n' if head else f"<td{kind}>{text}</td>\n"
