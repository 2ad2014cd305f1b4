"""Sets that scikit-learn ships, cut for anomaly detection."""

import numpy as np
from sklearn import datasets
from sklearn.utils import Bunch

from skad._random import generator


def load_breast_cancer(*, random_state=0):
    """Load breast tumours: benign ones to train on, malignant ones as anomalies.

    Half of the 357 benign tumours are the training data; the other half and all 212
    malignant ones are the test data. 30 features.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=0
        Draws the half.

    Returns
    -------
    data : Bunch
        `X_train`, `X_test`, `y_test` (1 normal, -1 anomaly), `feature_names`,
        `image_shape` (None) and `title`.

    Examples
    --------
    >>> from skad.datasets import load_breast_cancer
    >>> data = load_breast_cancer()
    >>> data.X_train.shape, data.X_test.shape
    ((178, 30), (391, 30))
    """
    data = datasets.load_breast_cancer()
    random_state = generator(random_state)
    train, test = _halves(np.flatnonzero(data.target == 1), random_state)
    test = np.sort(np.concatenate([test, np.flatnonzero(data.target == 0)]))
    return Bunch(
        X_train=data.data[train],
        X_test=data.data[test],
        y_test=np.where(data.target[test] == 1, 1, -1),
        feature_names=list(data.feature_names),
        image_shape=None,
        title="Breast cancer",
    )


def load_digits(*, normal_digit=0, anomalies_per_digit=10, random_state=0):
    """Load handwritten digits: one digit to train on, the others as anomalies.

    Half of the pictures of `normal_digit` are the training data; the other half and
    some pictures of every other digit are the test data. Pictures of 8 x 8 pixels in
    flat rows, 0 to 16.

    Parameters
    ----------
    normal_digit : int, default=0
        The digit that is normal, 0 to 9.
    anomalies_per_digit : int, default=10
        How many pictures of each other digit are drawn.
    random_state : int, RandomState instance or None, default=0
        Draws the half and the anomalies.

    Returns
    -------
    data : Bunch
        `X_train`, `X_test`, `y_test` (1 normal, -1 anomaly), `feature_names`,
        `image_shape` (8, 8), `title` and `digits_test`, which digit each test row is.

    Examples
    --------
    >>> from skad.datasets import load_digits
    >>> data = load_digits(normal_digit=3)
    >>> data.X_train.shape, data.image_shape
    ((91, 64), (8, 8))
    """
    data = datasets.load_digits()
    random_state = generator(random_state)
    train, test = _halves(np.flatnonzero(data.target == normal_digit), random_state)
    for digit in np.setdiff1d(np.arange(10), [normal_digit]):
        rows = random_state.permutation(np.flatnonzero(data.target == digit))
        test = np.concatenate([test, rows[:anomalies_per_digit]])
    test = np.sort(test)
    return Bunch(
        X_train=data.data[train],
        X_test=data.data[test],
        y_test=np.where(data.target[test] == normal_digit, 1, -1),
        digits_test=data.target[test],
        feature_names=list(data.feature_names),
        image_shape=(8, 8),
        title=f"Handwritten digits ({normal_digit} is normal)",
    )


def _halves(rows, random_state):
    """Return a random half of `rows` and the rest, both sorted."""
    rows = random_state.permutation(rows)
    return np.sort(rows[: len(rows) // 2]), np.sort(rows[len(rows) // 2 :])
