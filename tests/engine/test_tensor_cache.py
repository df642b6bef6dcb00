"""The cache returns what was stored, whatever happened to the file in between."""

import multiprocessing

import pytest
import torch

from medstudy.engine.tensor_cache import TensorCache, key

VALUES = {
    "uint8": torch.arange(60, dtype=torch.uint8).view(5, 4, 3),
    "float32": torch.linspace(-1, 1, 12).view(3, 4),
    "bfloat16": torch.linspace(-1, 1, 12).view(3, 4).bfloat16(),
    "not contiguous": torch.arange(12.0).view(3, 4).T,
    "one number": torch.tensor(3.5),
}
NAME = key("test")


def never():
    pytest.fail("made again")


def only_file(folder):
    (file,) = [file for file in folder.rglob("*") if file.is_file()]
    return file


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_computed_once_then_read(tmp_path, value):
    shelf = TensorCache(tmp_path)
    assert torch.equal(shelf.get(NAME, lambda: value), value)
    again = shelf.get(NAME, never)
    assert torch.equal(again, value) and again.dtype == value.dtype and again.shape == value.shape
    assert only_file(tmp_path) == tmp_path / NAME[:2] / f"{NAME}.safetensors"


@pytest.mark.parametrize("keep", [0, 5, 40, -1], ids=["empty", "no header", "half a header", "a byte short"])
def test_a_damaged_file_is_computed_again(tmp_path, keep):
    shelf, value = TensorCache(tmp_path), VALUES["float32"]
    shelf.get(NAME, lambda: value)
    file = only_file(tmp_path)
    file.write_bytes(file.read_bytes()[:keep])
    assert torch.equal(shelf.get(NAME, lambda: value), value)
    assert torch.equal(shelf.get(NAME, never), value)


def test_changing_a_tensor_does_not_change_its_file(tmp_path):
    shelf, value = TensorCache(tmp_path), VALUES["uint8"]
    shelf.get(NAME, lambda: value)
    shelf.get(NAME, never).zero_()
    assert torch.equal(shelf.get(NAME, never), value)


def test_a_failed_computation_leaves_no_file(tmp_path):
    def fail():
        raise ValueError("no value")

    with pytest.raises(ValueError, match="no value"):
        TensorCache(tmp_path).get(NAME, fail)
    assert not list(tmp_path.rglob("*"))


def test_a_tensor_with_gradients_is_stored_without(tmp_path):
    weight = torch.nn.Parameter(torch.ones(2, 2))
    assert not TensorCache(tmp_path).get(NAME, lambda: weight * 2).requires_grad


def _fill(folder):
    for index in range(40):
        value = torch.full((50, 50), float(index))
        assert torch.equal(TensorCache(folder).get(key(index), lambda value=value: value), value)


def test_processes_may_write_the_same_keys_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 40


def test_a_key_depends_on_every_part_and_on_their_boundaries():
    keys = [key("a", "bc"), key("ab", "c"), key("abc"), key(1), key("1"), key(1.5), key([1], 2), key([1, 2])]
    assert len(set(keys)) == len(keys) and all(len(name) == 64 for name in keys)
    assert key((1, 2), {"a": 1, "b": 2}) == key([1, 2], {"b": 2, "a": 1})
    assert key("test").startswith("ecfd1608")  # files of earlier runs stay valid
    with pytest.raises(TypeError):
        key(object())
