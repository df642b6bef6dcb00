"""Tiny fixtures of every public data set, in their sources' own formats: name -> function(folder) -> its Params.

A further form of a data set is "name-form".
"""

from __future__ import annotations

from tests.support import fixtures_paper, fixtures_related

MAKERS = {
    **fixtures_paper.MAKERS,
    **fixtures_related.MAKERS,
}
