"""Which samples to look at next, so that few labels teach a detector most."""

from numbers import Integral

import numpy as np

from skad._array import to_numpy
from skad._labels import label_column

STRATEGIES = ("anomalous", "boundary", "both")


def query(detector, X, n, *, y=None, strategy="anomalous"):
    """Return which samples to look at next.

    Whoever knows labels a few samples at a time: of those without a label this names
    the next ones. Then the detector is fitted again, to all labels.

    Parameters
    ----------
    detector : fitted detector
        Any detector, also one that uses no labels, as at the beginning; or a Pipeline
        that ends in one.
    X : array-like or tensor of shape (n_samples, ...)
        The samples to choose from, as `detector` takes them.
    n : int
        Number of samples to name; all that have no label where these are fewer.
    y : array-like of shape (n_samples,), default=None
        Labels so far: samples labelled 1 or -1 are known and not named again, those
        labelled 0 are not. None is no label yet.
    strategy : {"anomalous", "boundary", "both"}, default="anomalous"
        "anomalous" names the samples with the lowest scores [1]_: what is looked at are
        then the alarms, and anomalies are found soonest. "boundary" names those nearest
        to the threshold, which the detector is least sure of. "both" takes turns.

    Returns
    -------
    indices : ndarray of shape (n_named,), int64
        The samples' places in `X`, the one to look at first at the front.

    See Also
    --------
    skad.supervised : Detectors that learn from what is found.

    Notes
    -----
    Samples with equal scores are named in their order in `X`.

    References
    ----------
    .. [1] S. Das, W.-K. Wong, T. Dietterich, A. Fern and A. Emmott, "Incorporating
       expert feedback into active anomaly discovery", ICDM, 2016 (the greedy query).

    Examples
    --------
    >>> from skad.density import Mahalanobis
    >>> from skad.model_selection import query
    >>> X = [[0.0], [0.1], [-0.1], [0.2], [5.0], [-0.2], [-6.0]]
    >>> detector = Mahalanobis().fit(X)
    >>> query(detector, X, 2)
    array([6, 4])
    >>> query(detector, X, 2, y=[0, 0, 0, 0, 0, 0, -1])
    array([4, 3])
    """
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n={n!r} must be a whole number of at least 1.")
    if strategy not in STRATEGIES:
        raise ValueError(
            f"strategy={strategy!r} must be one of {', '.join(map(repr, STRATEGIES))}."
        )
    decision = to_numpy(detector.decision_function(X))
    unknown = np.arange(len(decision))
    if y is not None:
        unknown = np.flatnonzero(~np.isin(label_column(y, len(decision)), (1, -1)))
    lowest = unknown[np.argsort(decision[unknown], kind="stable")]
    nearest = unknown[np.argsort(np.abs(decision[unknown]), kind="stable")]
    named = {"anomalous": lowest, "boundary": nearest}.get(strategy)
    if named is None:
        turns = np.stack([lowest, nearest], axis=1).reshape(-1)
        _, first = np.unique(turns, return_index=True)
        named = turns[np.sort(first)]
    return named[:n].astype(np.int64)
