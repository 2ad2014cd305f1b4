"""One pass through a classifier for many detectors around it."""

import os

import joblib
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_memory

from skad._array import to_numpy
from skad._picture_input import check_images
from skad.embedding._classifier import ClassifierView, Outputs, chosen_rows
from skad.embedding._classifier_fit import fitted_classifier, is_fitted_already
from skad.ood._labels import split_labels


class _Rows(BaseEstimator):
    """Stands in for the detector whose rows are checked."""

    def __init__(self, image_shape=None):
        self.image_shape = image_shape


def extract(classifier, X, *, layers=("penultimate",), image_shape=None, memory=None):
    """Return rows with a classifier's outputs, which detectors take in place of rows.

    Parameters
    ----------
    classifier : fitted classifier, torch.nn.Module or None
        What the detectors that will get the result have as their `classifier`: a
        ``FrozenEstimator`` or a module.
    X : array-like or tensor of shape (n_samples, n_features)
        The samples.
    layers : sequence of str, default=("penultimate",)
        Layers whose features will be needed.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, channels) of images that come as rows.
    memory : str, path, joblib.Memory or None, default=None
        Where outputs are kept between calls: a folder or a cache. The same classifier,
        told by its weights, is not run twice on the same samples.

    Returns
    -------
    outputs : Outputs
        Sliced and scored as the samples themselves; ``outputs["penultimate"]`` are the
        features of a layer, ``outputs["decision"]`` the values per class.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skad.ood import Energy, MaxSoftmax, extract
    >>> X, y = load_iris(return_X_y=True)
    >>> frozen = FrozenEstimator(LogisticRegression(max_iter=1000).fit(X, y))
    >>> outputs = extract(frozen, X)
    >>> Energy(frozen).fit(outputs).predict(outputs[:3])
    array([1, 1, 1])
    >>> MaxSoftmax(frozen).fit(outputs).predict(outputs[:3])
    array([1, 1, 1])
    """
    view, X = _view(classifier, X, image_shape)
    return _extracted(view, X, layers, memory)


def compare(
    detectors,
    classifier,
    X,
    y=None,
    *,
    X_test,
    y_ood=None,
    image_shape=None,
    memory=None,
):
    """Fit detectors around one classifier and score other samples, in one pass each.

    Parameters
    ----------
    detectors : list of detectors, or of (str, detector)
        Detectors around a classifier; their own `classifier` is not looked at. They are
        cloned.
    classifier : classifier or torch.nn.Module
        Fitted once, on the samples that are in the distribution, unless it is a
        ``FrozenEstimator`` or a module.
    X : array-like or tensor of shape (n_samples, n_features)
        Training data.
    y : array-like of shape (n_samples,), default=None
        Class labels.
    X_test : array-like or tensor of shape (n_test_samples, n_features)
        The samples to score.
    y_ood : array-like of shape (n_samples,), default=None
        -1 marks known outliers in `X`.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, channels) of images that come as rows.
    memory : str, path, joblib.Memory or None, default=None
        As in `extract`.

    Returns
    -------
    scores : dict of str to ndarray of shape (n_test_samples,)
        `score_samples` of each detector: higher is more normal.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skad.ood import Energy, MahalanobisOOD, compare
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = LogisticRegression(max_iter=1000)
    >>> scores = compare([Energy(), MahalanobisOOD()], classifier, X, y, X_test=X + 9)
    >>> sorted(scores)
    ['Energy', 'MahalanobisOOD']
    """
    labels, outlier = split_labels(len(X), y, None, y_ood)
    checked = _Rows(image_shape)
    rows = check_images(checked, X, reset=True, any_values=True)
    classes = None
    if not is_fitted_already(classifier):
        inside = chosen_rows(rows, ~outlier)
        own = None if labels is None else labels[~outlier]
        classifier, classes = fitted_classifier(
            classifier, inside, own, checked.image_shape_
        )
        classifier = FrozenEstimator(classifier)
    view, rows = _view(classifier, X, image_shape)
    if classes is not None:
        view.classes = classes
    named = [d if isinstance(d, tuple) else (type(d).__name__, d) for d in detectors]
    ready = {}
    for name, detector in named:
        while name in ready:
            name += "_"
        ready[name] = clone(detector).set_params(classifier=classifier)
    layers = dict.fromkeys(layer for d in ready.values() for layer in d._layers())
    for layer in layers:
        view.check_layer(layer)
    fitted_on = _extracted(view, rows, layers, memory)
    rows = check_images(checked, X_test, reset=False, any_values=True)
    tested = _extracted(view, rows, layers, memory)
    found = {}
    for name, detector in ready.items():
        # known rows have been checked; a detector of images keeps its shape
        detector.set_params(image_shape=checked.image_shape_)
        found[name] = detector.fit(fitted_on, y, y_ood=y_ood).score_samples(tested)
    return found


def _view(classifier, X, image_shape):
    checked = _Rows(image_shape)
    X = check_images(checked, X, reset=True, any_values=True)
    view = ClassifierView(classifier, X, checked.image_shape_)
    return view, X


def _extracted(view, X, layers, memory):
    keys = [layer for layer in layers if layer in view.layers]
    if view.has_decision:
        keys.append("decision")
    if view.has_probabilities and not view.has_logits:
        keys.append("probabilities")
    matching = view.matching(X)
    outputs = Outputs(matching, X, keys[: len(layers)])
    if memory is None:
        return outputs.extracted(keys)
    memory = os.fspath(memory) if isinstance(memory, os.PathLike) else memory
    known = check_memory(memory).cache(_known, ignore=["outputs"])(
        _fingerprint(view), X, keys, outputs
    )
    return Outputs(matching, X, outputs.layers, dict(known))


def _known(fingerprint, X, keys, outputs):
    return outputs.extracted(keys).known


def _fingerprint(view):
    """Return what tells classifiers apart: weights, and how they are put together."""
    if not view.is_module:
        return joblib.hash(view.classifier)
    module = view.tail.module
    state = {name: to_numpy(value) for name, value in module.state_dict().items()}
    return joblib.hash((state, repr(module), view.steps, view.tail.shape))
