"""Beside a class: what makes it cheap to test, other paths through it, and excuses.

A file of this folder is a family, or one idea of it, and assigns `Settings` to names of
its classes. A class without any is built with its defaults, and around a classifier
that labels its rows itself where its own needs labels.
"""

import dataclasses
import pkgutil
from collections.abc import Callable
from importlib import import_module


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the common tests know of a class beside what it says itself.

    Parameters
    ----------
    cheap : dict
        Constructor arguments that make it cheap or possible to build.
    variants : list of dict
        Arguments that take another path through the method, on top of `cheap`.
    classifier : callable or None
        Returns the classifier of the common tests, which call fit(X) alone.
    own_labels : str
        Why `fit` needs labels: class labels, whatever the classifier, or those of
        `labels`.
    labels : callable or None
        Returns the labels of rows in the common tests of one that needs other labels
        than those of classes.
    pairs : bool
        Whether samples are pairs of pictures, which a row or a grey picture is not: the
        common tests take either for both of a pair.
    pictures : dict or None
        Arguments of a detector of pictures whose scores of drawn ones, 24 pixels wide,
        are recorded; None records none.
    excused : dict
        Reasons why a test cannot hold by the nature of the method: "sign" where scores
        far from the training data cannot be relied on, ("sign", value) where this holds
        for one text as a parameter, ("sign", "name=value") for another; "feature" where
        no feature can be far out by itself; "one column" where a row of one feature
        says nothing; "tensors" where it does not take them; "rows around" where a score
        depends on the rows before it;
        "text of frames" where it is taken, and no error;
        "outliers" where with contamination="auto" no training row may be an anomaly;
        and names of scikit-learn's estimator checks.
    """

    cheap: dict = dataclasses.field(default_factory=dict)
    variants: list = dataclasses.field(default_factory=list)
    classifier: Callable | None = None
    own_labels: str = ""
    labels: Callable | None = None
    pairs: bool = False
    pictures: dict | None = None
    excused: dict = dataclasses.field(default_factory=dict)


def find_settings():
    """Return the settings of all files by the name of the class."""
    found = {}
    for file in pkgutil.iter_modules(__path__):
        for name, value in vars(import_module(f"{__name__}.{file.name}")).items():
            if isinstance(value, Settings):
                assert name not in found, f"{name} has settings twice"
                found[name] = value
    return found
