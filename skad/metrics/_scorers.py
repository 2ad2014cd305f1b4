"""Scorers for searches by name, with anomalies as the positive class."""

from importlib import import_module
from typing import Any

from skad.metrics._ood import auroc
from skad.metrics._pate import pate
from skad.metrics._points import average_precision, best_f1, precision_at_n
from skad.metrics._series_scorers import make_series_scorer
from skad.metrics._vus import vus_pr, vus_roc

_METRICS = {
    "average_precision": average_precision,
    "best_f1": best_f1,
    "pate": pate,
    "precision_at_n": precision_at_n,
    "roc_auc": auroc,
    "vus_pr": vus_pr,
    "vus_roc": vus_roc,
}
# Scorers without labels, which lie above the metrics: imported when asked for.
_LABEL_FREE = ("excess_mass", "mass_volume")


def get_scorer_names():
    """Return the names that `get_scorer` takes.

    Returns
    -------
    names : list of str
        In the order of the alphabet. "pate", "vus_pr" and "vus_roc" are for series;
        "excess_mass" and "mass_volume" need no labels.

    Examples
    --------
    >>> from skad.metrics import get_scorer_names
    >>> get_scorer_names()
    ['average_precision', 'best_f1', 'excess_mass', 'mass_volume', 'pate',
     'precision_at_n', 'roc_auc', 'vus_pr', 'vus_roc']
    """
    return sorted([*_METRICS, *_LABEL_FREE])


def get_scorer(name) -> Any:
    """Return a scorer for ``GridSearchCV(scoring=...)``; anomalies are positive.

    For tables, pictures and series. It calls ``score_samples`` and turns the sign, and
    labels are skad's, 1 normal and -1 an anomaly. The same names of scikit-learn rate
    the normal class: its "average_precision" is near 1 for any detector, as nearly all
    samples are normal. `make_series_scorer` makes scorers with other settings.

    Two names are for searches without labels, on tables: "excess_mass" and
    "mass_volume" are ``skad.model_selection.excess_mass`` and ``mass_volume``, whose
    classes `ExcessMass` and `MassVolume` have other settings.

    Parameters
    ----------
    name : str
        One of `get_scorer_names`.

    Returns
    -------
    scorer : callable
        ``scorer(detector, X, y, groups=None)``, higher = better; without labels
        ``scorer(detector, X)``.

    Raises
    ------
    ValueError
        If `name` is none of these; the message lists them.

    Examples
    --------
    >>> from skad import KNN
    >>> from skad.metrics import get_scorer
    >>> X, y = [[0.0], [0.1], [0.2], [9.0], [0.3]], [1, 1, 1, -1, 1]
    >>> get_scorer("average_precision")(KNN(n_neighbors=1).fit(X), X, y)
    1.0

    Without labels:

    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> scoring = get_scorer("excess_mass")
    >>> search = GridSearchCV(KNN(), {"n_neighbors": [1, 20]}, scoring=scoring).fit(X)
    >>> search.best_params_
    {'n_neighbors': 20}
    """
    if name in _LABEL_FREE:
        return getattr(import_module("skad.model_selection"), name)
    if name not in _METRICS:
        raise ValueError(
            f"{name!r} is no scorer; the names are {', '.join(get_scorer_names())}."
        )
    return make_series_scorer(_METRICS[name])
