"""Class labels and labels of outliers as `fit` gets them, and labels of rejection."""

import warnings

import numpy as np

from skad._array import to_numpy
from skad._labels import check_labels, label_column

# Cohen's kappa from which on a classifier is taken to know the labels, and the number
# of samples below which chance alone may hide that it does.
_AGREEMENT, _FEWEST = 0.1, 20


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


def warn_of_disagreement(detector, predicted, codes):
    """Warn where a trained classifier knows the training labels hardly above chance.

    Parameters
    ----------
    detector : detector
        With `classes_`, in the order of the classifier's outputs.
    predicted, codes : array or tensor of shape (n,)
        What the classifier says and what the labels say, as indices of `classes_`.
    """
    predicted = to_numpy(predicted)
    counts = [
        np.bincount(found, minlength=len(detector.classes_)) / len(codes)
        for found in (predicted, codes)
    ]
    chance, agreed = float(counts[0] @ counts[1]), float(np.mean(predicted == codes))
    if len(codes) < _FEWEST or agreed - chance >= _AGREEMENT * (1 - chance):
        return
    order = ", ".join(map(repr, detector.classes_[:5].tolist()))
    dots = ", ..." if len(detector.classes_) > 5 else ""
    warnings.warn(
        f"The classifier of this {type(detector).__name__} says of {agreed:.0%} of the "
        f"{len(codes)} training samples what y says, and by chance it would be "
        f"{chance:.0%}. Its outputs are taken as the classes {order}{dots}: pass the "
        "numbers of the outputs as y if their order is another. Or samples come "
        "otherwise than those it was trained on (scaled, normalised, channels).",
        stacklevel=2,
    )


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
