"""Families import a method's file when the method is asked for, not before."""

import pathlib
import re
import sys
from importlib import import_module

from skad._names import did_you_mean

_STATED = re.compile(r"^from (\S+) import (\w+) as", re.MULTILINE)


def attach(package):
    """Return `__getattr__`, `__dir__` and `__all__` of a package.

    Its stub, `__init__.pyi`, says which file has which name: it is made from the files
    by ``python -m tests._stubs``, and type checkers read the same lines.

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    """
    module = sys.modules[package]
    stub = pathlib.Path(module.__file__).with_name("__init__.pyi")
    text = module.__loader__.get_data(str(stub)).decode()  # zipped packages, too
    where = {name: file for file, name in _STATED.findall(text)}

    def __getattr__(name):  # noqa: N807
        if name not in where:
            words = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(words + did_you_mean(name, where))
        found = getattr(import_module(where[name]), name)
        setattr(module, name, found)
        return found

    names = sorted(where)
    return __getattr__, lambda: names, names
