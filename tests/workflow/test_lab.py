"""Working copies of the notebooks: replaced when their notebook changes, but never once they were edited."""

import sys

import nbformat
import pytest

from medstudy import cli
from medstudy.errors import ParamsError
from medstudy.workflow import lab


@pytest.fixture
def folders(tmp_path):
    """(repository's notebooks, copies): two notebooks, not copied yet."""
    source = tmp_path / "notebooks"
    source.mkdir()
    (source / "explore").mkdir()
    for name in ("01_data", "02_train"):
        cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("1 + 1")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), source / f"{name}.ipynb")
    return source, tmp_path / "lab"


def change(file, *, source=None, outputs=False):
    made = nbformat.read(file, as_version=4)
    if source:
        made.cells[1].source = source
    if outputs:
        made.cells[1].execution_count = 1
        made.cells[1].outputs = [nbformat.v4.new_output("stream", text="2\n")]
        made.cells.append(nbformat.v4.new_code_cell(""))  # JupyterLab adds one below the last
    nbformat.write(made, file)


def text(folder):
    return (folder / "02_train.ipynb").read_text()


def test_copies_are_made_once_and_a_second_start_changes_nothing(folders):
    source, copies = folders
    assert lab.refresh(*folders) == lab.Copies(made=("01_data", "02_train"))
    assert text(copies) == text(source)
    change(copies / "02_train.ipynb", outputs=True)
    kept = text(copies)
    assert lab.refresh(*folders) == lab.Copies() and text(copies) == kept


def test_a_copy_that_was_only_run_is_replaced_when_its_notebook_changes(folders):
    source, copies = folders
    lab.refresh(*folders)
    change(copies / "02_train.ipynb", outputs=True)
    change(source / "02_train.ipynb", source="2 + 2")
    found = lab.refresh(*folders)
    assert found == lab.Copies(replaced=("02_train",)) and text(copies) == text(source)
    assert found.notices() == ["Replaced by the repository's new version (1): 02_train"]


def test_an_edited_copy_is_never_overwritten_and_always_named(folders):
    source, copies = folders
    lab.refresh(*folders)
    change(copies / "02_train.ipynb", source="3 + 3")
    kept = text(copies)
    assert lab.refresh(*folders) == lab.Copies(edited=("02_train",)) and text(copies) == kept
    change(source / "02_train.ipynb", source="2 + 2")
    for _ in range(2):
        found = lab.refresh(*folders)
        assert found == lab.Copies(outdated=("02_train",)) and text(copies) == kept
    assert "rename yours" in found.notices()[0]
    change(copies / "02_train.ipynb", source="2 + 2")
    assert lab.refresh(*folders) == lab.Copies()


@pytest.mark.parametrize("record", [None, "", "[", "{}"])
def test_without_a_record_of_the_copies_all_that_differ_count_as_edited(folders, record):
    source, copies = folders
    lab.refresh(*folders)
    (copies / lab.ORIGINS).unlink() if record is None else (copies / lab.ORIGINS).write_text(record)
    change(copies / "02_train.ipynb", source="3 + 3")
    (copies / "01_data.ipynb").write_text("no notebook")
    assert lab.refresh(*folders) == lab.Copies(outdated=("01_data", "02_train"))
    assert (copies / "01_data.ipynb").read_text() == "no notebook"


def test_a_copy_without_its_notebook_is_kept_and_a_deleted_copy_is_made_again(folders):
    source, copies = folders
    lab.refresh(*folders)
    (source / "01_data.ipynb").unlink()
    (copies / "02_train.ipynb").unlink()
    assert lab.refresh(*folders) == lab.Copies(made=("02_train",), orphaned=("01_data",))
    assert (copies / "01_data.ipynb").is_file()


def test_jupyterlab_is_started_there_with_this_package(monkeypatch, capsys, folders):
    started, refresh = [], lab.refresh
    monkeypatch.setattr(lab, "refresh", lambda: refresh(*folders))
    monkeypatch.setattr("os.execve", lambda *call: started.append(call))
    assert cli.main(["lab", "--", "--no-browser"]) == 0
    (program, call, environment), = started
    assert program == sys.executable
    assert call[1:] == ["-m", "jupyterlab", f"--ServerApp.root_dir={lab.FOLDER}", "--no-browser"]
    assert environment["PYTHONPATH"].split(":")[0] == str(lab.paths.ROOT)
    assert "New copies (2): 01_data, 02_train" in capsys.readouterr().out
    monkeypatch.setattr(lab, "find_spec", lambda name: None)
    with pytest.raises(ParamsError, match=r"pip install 'medstudy\[lab\]'"):
        lab.command()


def test_notebooks_to_explore_with_are_copied_to_a_folder_of_their_own(folders):
    source, copies = folders
    (source / "02_train.ipynb").rename(source / "explore" / "study.ipynb")
    assert lab.refresh(*folders) == lab.Copies(made=("01_data", "explore/study"))
    change(copies / "explore" / "study.ipynb", source="3 + 3")
    assert lab.refresh(*folders) == lab.Copies(edited=("explore/study",))
