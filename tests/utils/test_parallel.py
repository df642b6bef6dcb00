"""Several processes give what one gives, in the same order, without running far ahead."""

import os

import numpy as np
import pytest

from medstudy.datasets import phantom
from medstudy.utils import allocation, devices, parallel


def numbered(place: int, base: int) -> tuple[int, int]:
    return base + place, os.getpid()


def test_one_process_needs_no_other():
    results = list(parallel.mapped(numbered, [(i, 10) for i in range(5)], 1))
    assert results == [(10 + i, os.getpid()) for i in range(5)]


def test_there_are_at_most_as_many_processes_as_cores(monkeypatch):
    monkeypatch.setattr(devices, "cores", lambda: 1)
    assert {process for _, process in parallel.mapped(numbered, [(i, 0) for i in range(30)], 4)} == {os.getpid()}


def test_several_processes_keep_the_order_and_take_few_items_ahead(monkeypatch):
    monkeypatch.setattr(devices, "cores", lambda: 2)
    taken = []

    def items():
        for place in range(200):
            taken.append(place)
            yield place, 5

    results = parallel.mapped(numbered, items(), 2)
    first = next(results)
    assert first[0] == 5 and len(taken) <= parallel.TOGETHER * 6
    rest = list(results)
    assert [number for number, _ in rest] == list(range(6, 205))
    assert os.getpid() not in {process for _, process in rest}


def test_an_error_in_a_process_is_raised_here(monkeypatch):
    monkeypatch.setattr(devices, "cores", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        list(parallel.mapped(divmod, [(1, 1), (1, 0)], 2))


def test_the_phantom_drawn_in_two_processes_is_the_same(monkeypatch):
    monkeypatch.setattr(devices, "cores", lambda: 2)
    monkeypatch.setattr(phantom, "MANY", 8)
    params = phantom.Params(train=9, val=0, test=0)
    for alone, drawn in zip(phantom.load(params, "train"), phantom.load(params, "train", 2), strict=True):
        assert alone.image_id == drawn.image_id and alone.questions == drawn.questions
        assert (np.asarray(alone.image) == np.asarray(drawn.image)).all()


def test_freed_memory_is_kept_where_the_c_library_can():
    assert isinstance(allocation.keep_freed(), bool)
