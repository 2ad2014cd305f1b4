"""Where sphinx-gallery files the examples of a class."""

from importlib import import_module

import skad


def gallery_names(full_name):
    """Return the names under which the examples of a class are filed, as one text.

    The shortest, `skad.KNN` and not `skad.neighbors.KNN`; and those of the methods that
    make an instance, as of a display.
    """
    module, _, name = full_name.rpartition(".")
    short = f"skad.{name}" if name in dir(skad) else full_name
    methods = dir(getattr(import_module(module), name))
    makers = [method for method in methods if method.startswith("from_")]
    return " ".join([short, *[f"{short}.{method}" for method in makers]])
