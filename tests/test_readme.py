"""The README shows what the committed results say, and every link in it leads somewhere."""

import json
import re
import shutil

import pytest

from benchmarks.__main__ import RESULTS, markdown, missed
from medstudy import params, paths, readme
from medstudy.errors import RunError

README = (paths.ROOT / "README.md").read_text(encoding="utf-8")


def test_the_results_in_the_readme_are_those_of_the_committed_study():
    assert _between("results") == readme.results(paths.ROOT / "figures" / "offline-full", paths.ROOT)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_benchmarks_in_the_readme_are_those_of_the_committed_run(device):
    file = RESULTS / f"{device}.json"
    if not file.is_file():
        assert "**Not run**" in _between(f"benchmarks {device}")
        return
    lines = json.loads(file.read_text(encoding="utf-8"))
    assert _between(f"benchmarks {device}") == markdown(lines)
    assert lines and not any(missed(line) for line in lines)


def _between(name: str) -> str:
    begin, end = readme.marks(name)
    return README.split(begin)[1].split(end)[0].strip()


def test_every_relative_link_exists():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    local = [target for target in targets if "://" not in target]
    assert local and [target for target in local if not (paths.ROOT / target).exists()] == []


def test_every_command_names_a_file_that_exists():
    for file in re.findall(r"(?:params|notebooks)/[\w.-]+", README):
        assert (paths.ROOT / file).exists(), file


def test_update_replaces_the_results_and_nothing_else(tmp_path):
    copy = tmp_path / "README.md"
    shutil.copy(paths.ROOT / "README.md", copy)
    begin = readme.marks("results")[0]
    copy.write_text(README.replace(begin, begin + "\nstale", 1), encoding="utf-8")
    readme.update(params.load("params/offline-full.yaml"), copy)
    assert copy.read_text(encoding="utf-8") == README


def test_a_readme_without_marks_is_explained(tmp_path):
    (tmp_path / "README.md").write_text("no marks")
    with pytest.raises(RunError, match="needs one"):
        readme.update(params.load("params/offline-full.yaml"), tmp_path / "README.md")
