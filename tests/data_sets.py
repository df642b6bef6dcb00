"""A tiny fixture of every public data set, in its source's own format: name -> function(folder) -> its Params."""

from __future__ import annotations

from tests import fixtures_paper

MAKERS = {
    **fixtures_paper.MAKERS,
}
