"""The base of classifiers that are trained to know what they have not seen."""

from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skad._array import to_numpy
from skad._parameters import with_parameters
from skad._sklearn import StrOptions
from skad._training import ShapedDetector, from_parameters
from skad.embedding._classifier import chosen_rows
from skad.embedding._classifier_fit import class_codes
from skad.ood._attribution import ATTRIBUTIONS, attribution_map, training_median
from skad.ood._base import ClassLabelsMixin
from skad.ood._honest import refitted
from skad.ood._labels import split_labels, with_rejection


@with_parameters
class TrainedClassifier(ClassLabelsMixin, ShapedDetector):
    """Base of classifiers that are detectors at once, trained on the one loop.

    A method names its network in `_network_class`, whose constructor takes the shape of
    samples, the number of classes and, by their names, parameters. Its `forward`
    returns logits, and its losses get the classes' indices, -1 for known outliers.

    Parameters
    ----------
    attribution : {"auto", "ablation", "gradient", "gradient_x_input", "integrated"}, \
            default="auto"
        How the map is made: from what the anomaly loses when an element takes its
        training median; from the size of the gradient, or its product with the
        distance to the median; or from the gradients integrated on the way from the
        median, which is "auto".
    warm_start : bool, default=False
        Whether another `fit` goes on from the weights of the last one, with its
        classes.
    architecture : {"auto", "mlp", "conv"} or class, default="auto"
        "auto" takes linear layers for rows and convolutions for images. A class of
        modules is called with the shapes (without the axis of samples) that it has to
        lead from and to.
    random_state : int, RandomState instance or None, default=None
        Draws weights and batches. Pass an int for reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network. It returns logits, and other detectors around a classifier
        take it.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    """

    _data = "classifier"
    _uses_outliers = False
    _exports = False  # a map is made around the network
    _honesty = "held out"
    _parameter_constraints = {
        "attribution": [StrOptions(ATTRIBUTIONS)],
    }

    attribution: str = "auto"
    weight_decay: float = 5e-4

    def _network(self, shape):
        return from_parameters(self, self._network_class, shape, self._n_classes)

    @property
    def _n_classes(self):
        return len(self.classes_)

    # ------------------------------------------------------------------------- fitting

    def _fit(self, X, y, y_class=None, y_ood=None):
        labels, outlier = split_labels(X.shape[0], y, y_class, y_ood)
        if labels is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but "
                "the target y is None."
            )
        # a warm start goes on with the classes it has
        classes, codes = class_codes(
            labels[~outlier], getattr(self, "classes_", None), None
        )
        if len(classes) < 2:
            raise ValueError(
                f"y has {len(classes)} class in the distribution; a classifier needs 2."
            )
        self.classes_ = classes
        inside = chosen_rows(X, ~outlier) if outlier.any() else X
        self._baseline_ = training_median(inside)
        how = "integrated" if self.attribution == "auto" else self.attribution
        self._attribution_ = how
        if self._uses_outliers and outlier.any():
            codes, given = np.full(X.shape[0], -1), codes
            codes[~outlier] = given
            super()._fit(X, codes)
        else:
            self._fit_classes(inside, codes)
        return self._in_blocks(self._anomaly, inside)

    def _fit_classes(self, X, codes):
        """Learn from rows (n, d) in the distribution and their classes (n,)."""
        super()._fit(X, codes)

    def _honest_anomaly(self, X, y, anomaly, y_class=None, y_ood=None):
        held = self._trained_.held
        if held is not None:
            return self._held_out_anomaly(held)
        labels, outlier = split_labels(X.shape[0], y, y_class, y_ood)
        return refitted(self, X, labels, outlier, anomaly)

    def _training_labels(self, X, y):
        return torch.as_tensor(y)

    def _split(self, n, labels, n_before=None):
        """Return the rows to hold out, of each class its share, and those to train on.

        The last row of a class is trained on.
        """
        held, kept = super()._split(n, labels, n_before)
        if held is None:
            return held, kept
        codes = to_numpy(labels)
        normal = np.flatnonzero(codes >= 0)
        normal = normal[np.argsort(codes[normal], kind="stable")]
        places = np.searchsorted(np.sort(normal), held)
        held = normal[places]  # spread over the rows in the order of their classes
        kept = np.setdiff1d(np.arange(n), held)
        missing = np.setdiff1d(codes[normal], codes[kept])
        last = [held[codes[held] == k][-1] for k in missing]
        held = np.setdiff1d(held, last)
        return held, np.setdiff1d(np.arange(n), held)

    def _normal_rows(self, X, y):
        return chosen_rows(X, y >= 0)

    # ------------------------------------------------------------------------- scoring

    def _score(self, network, x):
        """Return the anomaly (b,) of samples; gradients may be taken through it."""
        return network.anomaly(x)

    def _anomaly(self, network, X):
        with torch.no_grad():
            return self._score(network, self._samples(X))

    def _inspect(self, network, X):
        anomaly = self._anomaly(network, X)
        return anomaly, self._map(network, X, anomaly)

    def _map(self, network, X, anomaly=None):
        return attribution_map(
            self._attribution_,
            partial(self._anomaly, network),
            lambda rows: self._score(network, self._samples(rows)),
            X,
            self._baseline_,
            self.image_shape_,
            anomaly,
        )

    def _logits(self, network, X):
        with torch.no_grad():
            return network(self._samples(X))

    def predict_with_rejection(self, X, reject=-1) -> Any:
        """Return the class that the classifier predicts, or `reject` for outliers.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            The samples.
        reject : object, default=-1
            What stands for no class: rows with a negative decision function get it.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Class labels and `reject`; of dtype object where one dtype cannot hold both.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        codes = to_numpy(self._in_blocks(self._logits, X)).argmax(axis=1)
        outside = -to_numpy(self._in_blocks(self._anomaly, X)) - self.offset_ < 0
        return with_rejection(self.classes_, codes, outside, reject)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
