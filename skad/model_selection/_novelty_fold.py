"""Folds that train on normal rows and test on normal rows and anomalies."""

import warnings
from numbers import Integral

import numpy as np
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import column_or_1d, indexable

from skad._array import to_numpy
from skad._random import generator


def check_labels(y):
    """Return the labels as an array (n,) of 1, -1 and 0, or raise."""
    if y is None:
        raise ValueError(
            "y=None: NoveltyKFold needs labels, 1 for normal rows, -1 for anomalies "
            "and 0 for unlabelled rows."
        )
    y = column_or_1d(to_numpy(y))
    numeric = y.dtype.kind in "biuf"
    if not numeric or not np.isin(y, (-1, 0, 1)).all():
        found = ", ".join(map(str, np.unique(y)[:5].tolist()))
        raise ValueError(
            "y must hold 1 (normal), -1 (anomaly) and 0 (unlabelled) only, got "
            f"{found}{', ...' if len(np.unique(y)) > 5 else ''}."
        )
    return y.astype(int)


class NoveltyKFold(BaseCrossValidator):
    """K folds that train on normal rows and test on normal rows and anomalies.

    The normal rows (``y == 1``) are cut into `n_splits` folds. Each fold is tested
    once, together with anomalies (``y == -1``), by a model trained on the normal rows
    of the other folds. No model sees a known anomaly in training. Unlabelled rows
    (``y == 0``) train every model and test none.

    Read more in the :ref:`User Guide <model_selection>`.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2 and at most the number of normal rows.
    shuffle : bool, default=False
        Whether to shuffle the normal rows and the anomalies before they are cut.
        Without it the folds are runs of rows that follow each other.
    random_state : int, RandomState instance or None, default=None
        Draws the order of the rows when `shuffle` is true. Pass an int for the same
        folds in each call of `split`.
    anomalies : {"split", "repeat"}, default="split"
        "split" cuts the anomalies into folds too, so that each row is tested once and
        the folds' scores are independent given their models; it needs `n_splits`
        anomalies. "repeat" tests all anomalies in every fold, for sets with very few.

    See Also
    --------
    sklearn.model_selection.StratifiedKFold : Trains on the anomalies of the other folds
        too.

    Notes
    -----
    The labels are scikit-learn's, in which ``decision_function`` ranks normal rows
    higher: ``scoring="roc_auc"`` is the area under the ROC curve as the field reports
    it. ``scoring="average_precision"`` takes the normal rows as the positive class.

    `fit` receives the training rows' labels, all of them 1 or 0.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.model_selection import NoveltyKFold
    >>> X, y = np.zeros((7, 1)), [1, 1, 1, -1, -1, 1, 0]
    >>> for train, test in NoveltyKFold(n_splits=2).split(X, y):
    ...     print(train, test)
    [2 5 6] [0 1 3]
    [0 1 6] [2 4 5]
    """

    def __init__(
        self, n_splits=5, *, shuffle=False, random_state=None, anomalies="split"
    ):
        if not isinstance(n_splits, Integral) or n_splits < 2:
            raise ValueError(f"n_splits={n_splits!r} must be an int of at least 2.")
        if not isinstance(shuffle, bool):
            raise ValueError(f"shuffle={shuffle!r} must be True or False.")
        if not shuffle and random_state is not None:
            raise ValueError(
                f"random_state={random_state!r} has no effect with shuffle=False: "
                "leave it at None or pass shuffle=True."
            )
        if anomalies not in ("split", "repeat"):
            raise ValueError(f"anomalies={anomalies!r} must be 'split' or 'repeat'.")
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state
        self.anomalies = anomalies

    def split(self, X, y=None, groups=None):
        """Yield the rows of each split.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples; only their number matters.
        y : array-like of shape (n_samples,), default=None
            Labels: 1 normal, -1 anomaly, 0 unlabelled. Needed.
        groups : object
            Ignored, exists for API compatibility.

        Yields
        ------
        train : ndarray
            Training rows: normal and unlabelled ones, in ascending order.
        test : ndarray
            Test rows: normal ones and anomalies, in ascending order.
        """
        if groups is not None:
            warnings.warn(
                f"The groups parameter is ignored by {type(self).__name__}",
                UserWarning,
                stacklevel=2,
            )
        labels = check_labels(y)
        indexable(X, labels)
        normal, anomalies, unlabelled = (
            np.flatnonzero(labels == c) for c in (1, -1, 0)
        )
        self._check_counts(len(normal), len(anomalies))
        if self.shuffle:
            random_state = generator(self.random_state)
            normal = random_state.permutation(normal)
            anomalies = random_state.permutation(anomalies)
        folds = np.array_split(normal, self.n_splits)
        dealt = (
            np.array_split(anomalies, self.n_splits)
            if self.anomalies == "split"
            else [anomalies] * self.n_splits
        )
        for k in range(self.n_splits):
            train = np.concatenate([*folds[:k], *folds[k + 1 :], unlabelled])
            yield np.sort(train), np.sort(np.concatenate([folds[k], dealt[k]]))

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : object
            Ignored, exist for API compatibility.

        Returns
        -------
        n_splits : int
            The number of folds.
        """
        return self.n_splits

    def _check_counts(self, n_normal, n_anomalies):
        if n_normal < self.n_splits:
            raise ValueError(
                f"n_splits={self.n_splits} must be at most the number of normal rows, "
                f"and y has {n_normal} (label 1)."
            )
        if n_anomalies == 0:
            raise ValueError("y has no anomalies (label -1) to test on.")
        if self.anomalies == "split" and n_anomalies < self.n_splits:
            raise ValueError(
                f"n_splits={self.n_splits} must be at most the number of anomalies, "
                f"and y has {n_anomalies} (label -1); anomalies='repeat' tests all of "
                "them in every fold."
            )
