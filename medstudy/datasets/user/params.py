"""Parameters that all data sets of the user share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medstudy.data.readers.source import Source
from medstudy.datasets.user.columns import Columns
from medstudy.imaging.read_options import ReadOptions


class UserData(Source):
    """Parameters of any data set of the user; see also `Source`.

    label: its name in the study.
    columns: names of its columns, if they differ from the usual ones; see `medstudy.datasets.user.columns`.
    kind: of every question; auto is a choice if there are options, closed if the answer is yes or no, else open.
    ask: the question of every row, if the table has none.
    reading: how images are read.
    modality, anatomy: of rows that state none.
    render: whether images may appear in notebooks and figures.
    on_unreadable: a row that cannot be used, or an image that cannot be read, stops the study or is left out.
    on_contradiction: contradicting test questions about one image (`conflicts`) stop the study or are kept.
    test_share, val_share: of the groups, if the source has no splits; val_share is also held out of a training split
    that has no validation split.
    """

    label: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)]
    columns: Columns = Columns()
    kind: Literal["auto", "closed", "open", "choice", "class", "count", "point", "box", "report"] = "auto"
    ask: str | None = None
    reading: ReadOptions = ReadOptions()
    modality: str = "unknown"
    anatomy: str = "unknown"
    license: str = "not stated"
    render: bool = False
    on_unreadable: Literal["stop", "skip"] = "stop"
    on_contradiction: Literal["stop", "keep"] = "stop"
    test_share: float = Field(default=0.2, gt=0, le=1)

    @model_validator(mode="after")
    def _check_shares(self) -> UserData:
        if self.test_share < 1 and self.test_share + self.val_share >= 1:
            raise ValueError("test_share and val_share must leave something to train on (or let test_share be 1)")
        return self
