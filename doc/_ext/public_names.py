"""Where each public name has its page in the reference."""

from importlib import import_module

import skad

# What a module without `__all__` shows.
OTHERS = {"skad": ["all_detectors"], "skad.base": ["BaseDetector"]}


def modules():
    """Return {module: its public names}, detectors first.

    What a second module makes public too has its one page in the first.
    """
    found, seen = {}, set()
    for family in (*skad._FAMILIES, *skad._TOOLS):
        module = import_module(f"skad.{family}")
        own = {name: id(getattr(module, name)) for name in sorted(module.__all__)}
        found[module.__name__] = [
            name for name, which in own.items() if which not in seen
        ]
        seen |= set(own.values())
    return found | OTHERS


def places():
    """Return {public name: its full name}, of names that are public in one module."""
    found = {}
    for module, names in modules().items():
        for name in names:
            found.setdefault(name, []).append(f"{module}.{name}")
    return {name: full[0] for name, full in found.items() if len(full) == 1}
