"""What is compiled once the work repays it."""

import sys

import pytest

from skad import _compiled


def double(values):
    return [2 * value for value in values]


def elements(values):
    return values + values


def test_arrays_do_the_first_work_and_what_is_compiled_the_rest(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(_compiled, "_REPAYS", 10)
    function = _compiled.Compiled(double, elements)
    assert function([1.0], work=9) == [2.0]
    assert function([1.0], work=9) == [2.0]
    assert function(1.0, work=9) == 2.0  # of the loop alone
    assert function(2.0, work=9) == 4.0
    assert len(function._quick.signatures) == 1


def test_without_numba_arrays_do_all_of_it(monkeypatch):
    monkeypatch.setattr(_compiled, "_REPAYS", 0)
    monkeypatch.setitem(sys.modules, "numba", None)
    function = _compiled.Compiled(double, elements)
    assert function([1.0, 3.0], work=1) == [2.0, 6.0]
    assert function([1.0, 3.0], work=1) == [2.0, 6.0]
