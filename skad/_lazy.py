"""Families import a method's file when the method is asked for, not before."""

import sys
from importlib import import_module


def attach(package, files):
    """Return `__getattr__`, `__dir__` and `__all__` of a package.

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    files : dict of str to list of str
        Private module, in a folder of the package as "folder._module", to the public
        names in it.
    """
    where = {name: file for file, names in files.items() for name in names}

    def __getattr__(name):  # noqa: N807
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(f"{package}.{where[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    names = sorted(where)
    return __getattr__, lambda: names, names
