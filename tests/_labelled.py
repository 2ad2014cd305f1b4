"""Detectors whose `fit` needs class labels, which label their rows themselves.

They have the names of the detectors they are, so that the registry speaks of both.
"""

import warnings

import numpy as np

import skad
from tests._classifiers import own_labels


class _LabelsItself:
    def fit(self, X, y=None, **params):
        if y is None:
            try:
                rows = np.asarray(X, dtype=float)
                y = own_labels(rows) if rows.ndim == 2 and len(rows) else None
            except (TypeError, ValueError):
                pass  # the detector says what is wrong with the rows
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No outlier is marked|All labels are pre")
            return super().fit(X, y, **params)


def __getattr__(name):
    """Make the class of a detector that labels its rows; files of it find it here."""
    if name.startswith("_") or not hasattr(skad, name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = type(name, (_LabelsItself, getattr(skad, name)), {"__module__": __name__})
    return globals().setdefault(name, made)
