"""Scores of training rows by classifiers and statistics that have not learned them."""

import math

import numpy as np

from skad._array import namespace
from skad._cross_fitting import rows_of, scored_as_seen, unfitted
from skad.ood._moved import with_state

# Copies are fitted without a tenth of the rows each, as many of them as score this many
# rows. Without a fifth they would be other detectors: a network that is trained for a
# number of epochs takes fewer steps on fewer rows, and covariances are known less well.
SCORED = 200


def class_folds(codes):
    """Return the rows that are left out together, a list of arrays.

    Every fold has a tenth of the rows and a like share of each class, and leaves at
    least one row of it: the only row of a class is in none.

    Parameters
    ----------
    codes : ndarray of shape (n,)
        Classes of any type.
    """
    n = len(codes)
    _, codes, counts = np.unique(codes, return_inverse=True, return_counts=True)
    drawn = np.random.RandomState(0).permutation(n)
    order = drawn[np.argsort(codes[drawn], kind="stable")]
    folds = [order[i::10] for i in range(min(n, 10, math.ceil(10 * SCORED / n)))]
    folds = [rows[counts[codes[rows]] > 1] for rows in folds]
    return [rows for rows in folds if len(rows)]


def refitted(detector, X, labels, outlier, anomaly):
    """Return the anomaly (m,) of rows by copies whose classifier has not seen them.

    Parameters
    ----------
    detector : ClassifierDetector or TrainedClassifier
        Fitted to `X`; its copies are fitted with its parameters.
    X : array or tensor of shape (n, d)
        The training data, checked.
    labels : ndarray of shape (n,) or None
        Their classes.
    outlier : ndarray of shape (n,)
        Which of them are known outliers; all copies get these.
    anomaly : array or tensor
        The training anomaly, taken where too few rows are left.
    """
    inside, found = np.flatnonzero(~outlier), []
    codes = np.zeros(len(inside)) if labels is None else labels[inside]
    try:
        for held in class_folds(codes):
            rows = np.setdiff1d(np.arange(len(outlier)), inside[held])
            member = unfitted(detector)
            member._row_share = 1 - len(held) / len(inside)
            own = None if labels is None else labels[rows]
            known = {}
            if outlier.any():
                known["y_ood"] = np.where(outlier[rows], -1, 1)
            member.fit(rows_of(X, rows), own, **known)
            some = member._validate(rows_of(X, inside[held]), reset=False)
            found.append(member._in_blocks(member._anomaly, some))
        if not found:
            raise ValueError("every class has one row")
    except ValueError as error:
        return scored_as_seen(detector, X, len(outlier), anomaly, error)
    return namespace(found[0]).concat(found)


def relearned(detector, outputs, codes, known, anomaly):
    """Return the anomaly (m,) of rows by statistics that were learned without them.

    The classifier is not asked again.

    Parameters
    ----------
    detector : ClassifierDetector
        Fitted.
    outputs, codes, known
        What `_learn_from` got.
    anomaly : array or tensor
        The training anomaly, taken where too few rows are left.
    """
    found = []
    try:
        for held in class_folds(codes):
            kept = np.setdiff1d(np.arange(len(codes)), held)
            share = len(kept) / len(codes)
            member = with_state(detector, {"_row_share": share})
            member._learn_from(outputs[kept], codes[kept], known)
            found.append(member._in_blocks(member._anomaly, outputs[held]))
        if not found:
            raise ValueError("every class has one row")
    except ValueError as error:
        return scored_as_seen(detector, outputs, len(codes), anomaly, error)
    return namespace(found[0]).concat(found)
