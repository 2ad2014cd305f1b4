"""A user's classifier: its kind, how it is fitted, and which classes it knows."""

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from skad._array import to_numpy


def is_module(classifier):
    """Tell whether `classifier` is a torch module, without importing torch."""
    return any(
        kind.__module__ == "torch.nn.modules.module" and kind.__name__ == "Module"
        for kind in type(classifier).__mro__
    )


def is_skorch(classifier):
    """Tell whether `classifier` is a skorch net, without importing skorch."""
    return any(
        kind.__module__ == "skorch.net" and kind.__name__ == "NeuralNet"
        for kind in type(classifier).__mro__
    )


def is_fitted_already(classifier):
    """Tell whether `classifier` is taken as it is: a module, or a frozen estimator."""
    return is_module(classifier) or isinstance(classifier, FrozenEstimator)


def unwrapped(classifier):
    """Return the fitted classifier that a ``FrozenEstimator`` or a search holds."""
    while True:
        if isinstance(classifier, FrozenEstimator):
            classifier = classifier.estimator
        elif hasattr(classifier, "best_estimator_"):  # what predicts behind a search
            classifier = classifier.best_estimator_
        else:
            return classifier


def learns_from_labels(classifier):
    """Tell whether fitting with `classifier` needs class labels."""
    if is_fitted_already(classifier):
        return False
    if isinstance(classifier, Pipeline):
        return learns_from_labels(classifier.steps[-1][1])
    return is_skorch(classifier) or get_tags(classifier).target_tags.required


def fitted_classifier(classifier, X, y, image_shape=None):
    """Return a fitted classifier, and its classes where it does not know them itself.

    One that is fitted already is returned as it is, else a clone is fitted. `y` are
    class labels of any type, or None for a classifier that needs none. Rows that are
    images (h, w, c) reach a net as (b, c, h, w), as they do when it is asked.
    """
    if classifier is None:
        return None, None
    if is_fitted_already(classifier):
        if isinstance(classifier, FrozenEstimator):
            check_is_fitted(classifier.estimator)
        return classifier, None
    X, classes = to_numpy(X), None
    last = classifier.steps[-1][1] if isinstance(classifier, Pipeline) else classifier
    if is_skorch(last):  # its losses take the index of a class
        classes, y = np.unique(y, return_inverse=True)
        X, y = X.astype(np.float32, copy=False), y.astype(np.int64)
        if image_shape is not None and last is classifier:
            X = np.moveaxis(X.reshape(-1, *image_shape), 3, 1)
    fitted = clone(classifier)
    with config_context(transform_output="default"):
        fitted.fit(X) if y is None else fitted.fit(X, y)
    return fitted, classes


def class_codes(labels, classes, n_outputs=None):
    """Return the classes in the order of the outputs, and each label's index in them.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Class labels of any type.
    classes : ndarray or None
        The classifier's own; None for a module, whose columns have no names. Then
        labels that are column numbers are these, and others are taken in sorted order
        if there are as many as columns.
    n_outputs : int or None
        Columns of a module.

    Returns
    -------
    classes : ndarray of shape (c,)
    codes : ndarray of shape (n,)
    """
    own = np.unique(labels)
    if classes is None and n_outputs is None:
        classes = own
    elif classes is None:
        classes = np.arange(n_outputs)
        if len(own) == n_outputs:
            classes = own
        elif own.dtype.kind not in "iub" or own[0] < 0 or own[-1] >= n_outputs:
            raise ValueError(
                f"y has {len(own)} classes and the classifier {n_outputs} outputs: "
                "labels other than 0, 1, ... need a row of every class."
            )
    classes = np.asarray(classes)
    unknown = ~np.isin(own, classes)
    if unknown.any():
        raise ValueError(
            f"y has the class {own[unknown].tolist()[0]!r}, which the classifier does "
            f"not know (classes {classes.tolist()[:10]})."
        )
    order = np.argsort(classes, kind="stable")
    return classes, order[np.searchsorted(classes[order], labels)]
