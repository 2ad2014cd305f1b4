"""Class labels and labels of outliers as `fit` gets them, and labels of rejection."""

import numpy as np

from skad._labels import check_labels, label_column


def split_labels(n_samples, y, y_class, y_ood, *, others=False):
    """Return class labels (n,) or None, and which rows are known outliers (n,).

    Without `y_class`, `y` are the class labels. With it, `y` says what is in and out of
    the distribution, as it does for other detectors and for scorers. `others` are known
    outliers that are no rows.
    """
    if y_class is not None and y is not None:
        if y_ood is not None:
            raise ValueError(
                "With y_class, y says which rows are outliers, and so does y_ood: pass "
                "one of them."
            )
        y_ood = y
    labels = y if y_class is None else y_class
    outlier = np.zeros(n_samples, dtype=bool)
    if y_ood is not None:
        outlier = check_labels(y_ood, n_samples, others=others) == -1
    if labels is not None:
        labels = label_column(labels, n_samples)
    return labels, outlier


def with_rejection(classes, codes, outside, reject):
    """Return class labels (n,) for codes (n,), and `reject` where `outside` is true.

    Of dtype object where one dtype cannot hold both.
    """
    if reject in classes.tolist():
        raise ValueError(f"reject={reject!r} is one of the classes.")
    labels = classes[codes]
    if labels.dtype.kind in "iuf" and isinstance(reject, int | float):
        return np.where(outside, reject, labels)
    labels = labels.astype(object)
    labels[outside] = reject
    return labels
