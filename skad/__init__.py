"""Every kind of anomaly detector behind one scikit-learn contract.

``skad.KNN`` is short for ``skad.neighbors.KNN``, and so for every detector. Nothing
heavy is imported before it is used.
"""

from importlib import import_module

from skad._names import did_you_mean

__version__ = "0.2.0.dev0"

_FAMILIES = (
    "adversarial",
    "density",
    "ensemble",
    "image",
    "marginal",
    "neighbors",
    "one_class",
    "ood",
    "reconstruction",
    "self_supervised",
    "series",
    "stream",
    "subspace",
    "supervised",
)
_TOOLS = (
    "calibration",
    "datasets",
    "embedding",
    "export",
    "inspection",
    "metrics",
    "model_selection",
    "persistence",
)

# Where detectors are: what calibrates any other detector is one too.
_WITH_DETECTORS = (*_FAMILIES, "calibration")

_FILES = ("CorruptFileError", "load", "save")


def all_detectors():
    """Return every public detector.

    Returns
    -------
    detectors : list of (str, type)
        Names and classes, sorted by name.

    Examples
    --------
    >>> import skad
    >>> dict(skad.all_detectors())["Mahalanobis"]
    <class 'skad.density._mahalanobis.Mahalanobis'>
    """
    from skad.base import BaseDetector

    found = {}
    for family in _WITH_DETECTORS:
        module = import_module(f"skad.{family}")
        for name in module.__all__:
            member = getattr(module, name)
            if isinstance(member, type) and issubclass(member, BaseDetector):
                found[name] = member
    return sorted(found.items())


def __getattr__(name):
    if name in _FAMILIES + _TOOLS:
        return import_module(f"skad.{name}")
    if name in _FILES:
        return getattr(import_module("skad.persistence"), name)
    if name == "__all__":  # what a star brings
        return [public for public in __dir__() if public[0] != "_"]
    if not name.startswith("_"):
        for family in _WITH_DETECTORS:
            module = import_module(f"skad.{family}")
            if name in module.__all__:
                return getattr(module, name)
    words = f"module 'skad' has no attribute {name!r}"
    known = () if name.startswith("_") else __dir__()
    raise AttributeError(words + did_you_mean(name, known))


def __dir__():
    names = {*globals(), *_FAMILIES, *_TOOLS, *_FILES}
    for family in _WITH_DETECTORS:  # their names alone: their files stay unread
        names |= set(import_module(f"skad.{family}").__all__)
    return sorted(names - {"did_you_mean", "import_module"})
