"""The docs are true: their params are valid, the files that they show are read by them, tables are of the code."""

import re
import shlex

import pytest
import yaml

from medstudy import datasets, params, paths, readme
from tests import cards, own

PAGE = (paths.ROOT / "docs" / "your-data.md").read_text(encoding="utf-8")
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)]
FILES = dict(re.findall(r"^`(my/\S+)`:\n\n```\w+\n(.*?)```", PAGE, re.S | re.M))
TINY = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["datasets"][0]["label"])
def test_every_block_of_params_is_valid(block):
    study = params.parse(TINY | block)
    assert [datasets.label(one) for one in study.datasets] == [one["label"] for one in block["datasets"]]


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """The page's files, and every image that they name."""
    monkeypatch.chdir(tmp_path)
    for seed, (name, content) in enumerate(FILES.items()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
        for folder in ((tmp_path / name).parent, tmp_path / "my" / "pictures"):
            own.photos(folder, re.findall(r"[\w/]+\.png", content), size=(30 + seed, 40))


# label -> (images, questions, kinds)
EXPECTED = {
    "scans": (3, 4, {"closed", "open", "choice"}),
    "organs": (1, 1, {"choice"}),
    "swift": (3, 3, {"closed", "open"}),
    "llava": (1, 2, {"closed", "open"}),
    "lesions": (2, 3, {"closed", "open"}),
}


@pytest.mark.parametrize("label", EXPECTED)
def test_the_files_shown_are_read_as_said(shown, label):
    content = next(one for block in BLOCKS for one in block["datasets"] if one["label"] == label)
    found = own.found(params.data(content))
    asked = [question for one in found for question in one.questions]
    assert (len(found), len(asked), {question.kind for question in asked}) == EXPECTED[label]


@pytest.mark.parametrize("page", ["your-data", "clusters"])
def test_the_commands_shown_parse(page):
    from medstudy import cli

    text = (paths.ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    lines = [shlex.split(line, comments=True) for line in re.findall(r"^python -m medstudy (.*)$", text, re.M)]
    assert len(lines) >= 5
    for line in lines:
        assert callable(cli.parser().parse_args(line).command)


def test_the_table_of_data_sets_is_that_of_their_cards():
    text, (begin, end) = cards.PAGE.read_text(), readme.marks("cards")
    assert text.split(begin)[1].split(end)[0].strip() == cards.table()
    assert cards.table().count("\n") == 1 + sum(hasattr(module, "CARD") for module in datasets.REGISTRY.values())
