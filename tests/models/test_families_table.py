"""The tables of docs/reference/families.md are those that the code writes, and cover every family."""

import pytest

from medstudy import paths
from medstudy.evaluation import kinds
from medstudy.models import REGISTRY
from medstudy.params import Model
from medstudy.report.pages import readme
from tests.support import real

TEXT = (paths.ROOT / "docs" / "reference" / "families.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", real.tables())
def test_tables_are_those_that_the_code_writes(name):
    begin, end = readme.marks(name)
    assert TEXT.split(begin)[1].split(end)[0].strip() == real.tables()[name], "run python -m tests.support.real"


def test_every_family_is_described_and_can_be_named():
    named = set(Model.model_fields["family"].annotation.__args__)
    assert named == {*REGISTRY, "vision", *kinds.REGISTRY}
    assert all(f"`{name}`" in TEXT.split("## ")[0] for name in (*REGISTRY, *kinds.REGISTRY))


GOLDEN = {  # from the models' own descriptions
    ("Qwen2-VL", 448): 256,
    ("Qwen3-VL", 1024): 1024,
    ("LLaVA-OneVision", 224): 729 + 27 * 28,
    ("InternVL3", 448): 256,
    ("Idefics3-8B", 224): 169,
    ("SmolVLM-2.2B", 224): 81,
    ("SmolVLM-256M", 2048): 17 * 64,
    ("Gemma 3", 2048): 256,
}


@pytest.mark.parametrize(("name", "side"), GOLDEN)
def test_tokens_are_those_of_the_published_descriptions(name, side):
    assert real._native(name, side).visual_tokens == GOLDEN[name, side]
