"""Input checks of labels: 1 normal, -1 known anomaly, 0 unlabelled."""

import warnings

import numpy as np
from sklearn.utils.validation import column_or_1d

from skad._array import is_torch, to_numpy


def label_column(y, n_samples):
    """Return labels of any one kind as an array (n,), or raise an error about y."""
    try:
        labels = column_or_1d(to_numpy(y) if is_torch(y) else y, warn=True)
        if labels.dtype.kind == "O":
            np.unique(labels)  # which takes what can be compared
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"y is no column of labels of one kind: {reason}") from error
    if len(labels) != n_samples:
        raise ValueError(f"y has {len(labels)} labels for {n_samples} samples.")
    return labels


def check_labels(y, n_samples, *, others=False):
    """Return labels 1 normal, -1 known anomaly, 0 unlabelled, of shape (n,).

    Any other label counts as unlabelled, with a warning; so is it warned of labels that
    name no anomaly, unless something else may, `others`.
    """
    y = label_column(y, n_samples)
    labels = np.where(y == -1, -1, np.where(y == 1, 1, 0))
    if not np.all(labels == y):
        warnings.warn(
            "y has labels other than 1 (normal), -1 (anomaly) and 0 (unlabelled); they "
            "count as unlabelled.",
            stacklevel=6,
        )
    elif not others:
        warn_without_anomalies(labels)
    return labels


def warn_without_anomalies(y):
    """Warn where labels (n,) name no anomaly, as those of other conventions do."""
    if not np.any(y == -1):
        warnings.warn(
            "y has no label -1, so it names no anomaly: 1 is normal, -1 an anomaly, 0 "
            "unlabelled. If 1 means an anomaly and 0 normal, as in PyOD, pass "
            "np.where(y == 1, -1, 1).",
            stacklevel=7,
        )


def need_anomalies(detector, labels, fewest=1, more_ways="fit(X, X_outliers=...)"):
    """Raise unless labels (n,), or None, name known anomalies and other samples.

    `more_ways` says how anomalies are given, beside labels.
    """
    name = type(detector).__name__
    found = 0 if labels is None else int((labels == -1).sum())
    if found < fewest:
        raise ValueError(
            f"{name} learns from known anomalies and got {found} of {fewest}: "
            "fit(X, y) with y = -1 for them and 0 or 1 for all other samples, or "
            f"{more_ways}. Without any, take a detector that needs none, such as "
            "skad.IsolationForest."
        )
    if found == len(labels):
        raise ValueError(
            f"y is -1 for all samples (n_samples={found}): {name} learns how known "
            "anomalies differ from others, which are labelled 0 or 1."
        )


def need_normal(detector, labels):
    """Raise where labels (n,) name all samples as known anomalies."""
    if (labels == -1).all():
        raise ValueError(
            f"y is -1 for all samples (n_samples={len(labels)}): "
            f"{type(detector).__name__} learns what normal samples look like, which "
            "are labelled 0 or 1."
        )


def reference_classes(y, n_samples):
    """Return labels (n,) 0 for the class and -1, -2, ... for others, in their order."""
    labels = label_column(y, n_samples)
    if labels.dtype.kind not in "iufb":
        raise ValueError(
            "y has labels that are no numbers: 0 or 1 is the class, below 0 are others."
        )
    labels, found = labels.astype(np.float64), np.zeros(n_samples, int)
    others = labels < 0
    found[others] = -1 - np.unique(-labels[others], return_inverse=True)[1]
    return found
