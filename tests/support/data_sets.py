"""Tiny fixtures of all public data sets in the formats of their sources: name -> function(folder) -> its Params.

Another form of a data set is named "name-form".
"""

from __future__ import annotations

from tests.support import fixtures_paper, fixtures_peers, fixtures_related

MAKERS = {
    **fixtures_paper.MAKERS,
    **fixtures_related.MAKERS,
    **fixtures_peers.MAKERS,
}
