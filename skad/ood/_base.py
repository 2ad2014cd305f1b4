"""The base of every detector around a classifier: labels, features, maps, rejection."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from skad._array import blocks, device_of, is_torch, like, to_numpy
from skad._parameters import KW_ONLY, with_parameters
from skad._picture_input import check_images
from skad._sklearn import HasMethods, StrOptions, _fit_context
from skad.base import BaseDetector
from skad.embedding._classifier import ClassifierView, Outputs, chosen_rows
from skad.embedding._classifier_fit import (
    class_codes,
    fitted_classifier,
    is_fitted_already,
    learns_from_labels,
)
from skad.ood._attribution import ATTRIBUTIONS, attribution_map, training_median
from skad.ood._honest import refitted, relearned
from skad.ood._labels import split_labels, warn_of_disagreement, with_rejection
from skad.ood._moved import moved, with_state


class ClassLabelsMixin:
    """Gives `fit` the labels of classes and of outliers, which `_fit` takes as well."""

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, *, y_class=None, y_ood=None) -> Self:
        """Fit the classifier, unless it is fitted, and learn what is normal for it.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            Training data; images as for other detectors.
        y : array-like of shape (n_samples,), default=None
            Class labels of any type. With `y_class` it is instead what it is for other
            detectors and for scorers: 1 in the distribution, -1 a known outlier.
        y_class : array-like of shape (n_samples,), default=None
            Class labels, where `y` is needed for inliers and outliers, as with
            ``scoring="roc_auc"``. The labels of outliers are not looked at.
        y_ood : array-like of shape (n_samples,), default=None
            -1 marks known outliers, where `y` are class labels. They are not learned
            from, except where a method says what it learns from outliers.

        Returns
        -------
        self : object
            The fitted detector.
        """
        return self._learn(
            X, y, self._fit, forget=self._forgets(), y_class=y_class, y_ood=y_ood
        )


@with_parameters(kw_only=False)
class ClassifierDetector(ClassLabelsMixin, BaseDetector):
    """Base of the detectors around a classifier.

    With ``contamination="auto"`` a classifier that `fit` fits, and what is learned of
    its outputs, are learned again without a tenth of the rows, which set the threshold,
    and without other tenths until 200 rows were left out, or all. A fitted classifier
    is asked once, and only what is learned of its outputs is learned again: give rows
    that it has not seen.

    A method writes `_score` and, where it learns more than the classifier has,
    `_learn_from`; `_needs` says what the classifier has to offer.

    Parameters
    ----------
    classifier : classifier, torch.nn.Module or None, default=None
        Whose inputs are judged: a scikit-learn classifier or a skorch net, which is
        cloned and fitted unless it comes in a ``FrozenEstimator``, or a trained module
        that returns logits. None is ``LogisticRegression()``.
    attribution : {"auto", "ablation", "gradient", "gradient_x_input", "integrated"}, \
            default="auto"
        How the map is made: from what the anomaly loses when an element takes its
        training median; from the size of the gradient, or its product with the
        distance to the median; or from the gradients integrated on the way from the
        median. "auto" integrates for modules and nets and ablates for all others.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, channels) of images that come as rows.

    Attributes
    ----------
    classifier_ : classifier, module or None
        The fitted classifier; of a module the copy that is computed with.
    classes_ : ndarray of shape (n_classes,) or None
        Class labels.
    image_shape_ : tuple of int or None
        (height, width, channels) of images.
    n_features_in_ : int
        Number of features, or of the elements of an image.
    """

    classifier: Any = None
    _: KW_ONLY
    attribution: str = "auto"
    image_shape: Sequence[int] | None = None

    _parameter_constraints = {
        "classifier": [HasMethods(["fit"]), callable, None],
        "attribution": [StrOptions(ATTRIBUTIONS)],
        "image_shape": [tuple, list, None],
    }

    # Of "features", "decision", "logits", "probabilities", "head", "gradients".
    _data = "classifier"
    _needs = ("logits",)
    # What `classifier=None` is: without it the features are the input itself.
    _default_classifier = LogisticRegression
    # Whether `_learn_from` keeps so much of single rows that their scores are too low.
    _learns_rows = True
    # Of a copy that is fitted without some rows, what share of them it has.
    _row_share = 1.0
    # Whether class labels are needed beyond what the classifier learns from them.
    _needs_classes = False

    def _learn_from(self, outputs, codes, known):
        """Learn from the classifier's outputs.

        `codes` (n,) are classes, -1 where there are no labels; `known` are the outputs
        on known outliers, or None.
        """

    def _score(self, outputs):
        """Return how anomalous the rows of a block are, of shape (b,)."""
        raise NotImplementedError

    def _layers(self):
        """Return the names of the layers whose features are used."""
        layer = getattr(self, "layer", "penultimate" if "head" in self._needs else ())
        return (layer,) if isinstance(layer, str) else tuple(layer)

    def _logits(self, outputs, features):
        """Return what the last layer makes of other features (b, f)."""
        weight, bias = outputs.view.head
        return features @ like(weight, features).T + like(bias, features)

    def _in_proportion(self, n_rows):
        """Return a number of training rows as a copy has it, which has fewer of them.

        The tenth nearest of 100 rows is as near as the eighth of 80.
        """
        return max(1, round(n_rows * self._row_share))

    def _score_elements(self):
        """Return temporary elements of a row, beyond what the classifier needs."""
        return 4 * self._view_.n_outputs + self.n_features_in_

    def _map_elements(self):
        """Return what gradients of the score need beyond that for a row."""
        return 0

    def _passes_again(self):
        """Tell whether scoring needs the classifier beyond its outputs."""
        return False

    # ------------------------------------------------------------------------- fitting

    def _fit(self, X, y, y_class=None, y_ood=None):
        labels, outlier = split_labels(X.shape[0], y, y_class, y_ood)
        if labels is None and self._requires_labels():
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but "
                "the target y is None."
            )
        known = None
        if outlier.any():
            known, X = chosen_rows(X, outlier), chosen_rows(X, ~outlier)
            labels = None if labels is None else labels[~outlier]
            if X.shape[0] < 2:
                raise ValueError(
                    f"y marks all but {X.shape[0]} samples as outliers; at least 2 in "
                    "the distribution are needed."
                )
        self._view_, self.classifier_, classes = self._view(X, labels)
        view = self._view_
        for what in self._needs:
            view.require(what, type(self).__name__)
        for layer in self._layers():
            view.check_layer(layer)
        codes = np.full(X.shape[0], -1)
        if labels is not None:
            n_outputs = view.n_outputs if view.n_outputs else None
            classes = view.classes if classes is None else classes
            classes, codes = class_codes(labels, classes, n_outputs)
        elif classes is None and view.n_outputs:
            classes = view.classes
            classes = np.arange(view.n_outputs) if classes is None else classes
        self.classes_ = classes
        if self.attribution == "auto":
            by_gradient = view.is_module and view.has_gradients
            self._attribution_ = "integrated" if by_gradient else "ablation"
        else:
            self._attribution_ = self.attribution
            if self.attribution != "ablation":
                view.require("gradients", f"attribution={self.attribution!r}")
        knows = labels is not None and view.has_class and not self._fits_classifier()
        outputs = self._outputs(X, [view.class_key] if knows else [])
        if knows:
            warn_of_disagreement(self, outputs.predicted(), codes)
        self._baseline_ = training_median(outputs.X)
        known = None if known is None else self._outputs(known)
        self._learn_from(outputs, codes, known)
        if self.contamination == "auto":
            self._learned_ = outputs, codes, known  # until the threshold is set
        return self._in_blocks(self._anomaly, outputs, progress="score")

    def _honest_anomaly(self, X, y, anomaly, y_class=None, y_ood=None):
        if not isinstance(X, Outputs) and self._fits_classifier():
            labels, outlier = split_labels(X.shape[0], y, y_class, y_ood)
            return refitted(self, X, labels, outlier, anomaly)
        if self._learns_rows and type(self)._learn_from is not _NOTHING:
            return relearned(self, *self._learned_, anomaly)
        return anomaly

    def _fit_offset(self, X, y, anomaly, **params):
        try:
            return super()._fit_offset(X, y, anomaly, **params)
        finally:
            vars(self).pop("_learned_", None)

    def _fits_classifier(self):
        """Tell whether `fit` fits a classifier, to the rows that it then scores."""
        if self.classifier is None:
            return self._default_classifier is not None
        return not is_fitted_already(self.classifier)

    def _view(self, X, labels):
        """Return the view of the fitted classifier, itself, and its classes if known.

        The last is for classifiers that learned the classes' indices instead.
        """
        if isinstance(X, Outputs):
            return X.view, X.view.module or X.view.classifier, X.view.classes
        classifier = self.classifier
        if classifier is None and self._default_classifier is not None:
            classifier = self._default_classifier()
        classifier, classes = fitted_classifier(
            classifier, X, labels, self.image_shape_
        )
        view = ClassifierView(classifier, X, self.image_shape_)
        view.classifier = self.classifier
        return view, view.module or classifier, classes

    def _outputs(self, X, more=()):
        """Return all that the method looks at, and more, computed in blocks."""
        if not isinstance(X, Outputs):
            X = Outputs(self._view_.matching(X), X, self._layers())
        return X.extracted([*self._keys(), *more])

    def _keys(self):
        """Return the names of the outputs that the method looks at."""
        view, keys = self._view_, list(self._layers())
        if {"logits", "decision", "head"} & set(self._needs):
            keys.append("decision")
        if "probabilities" in self._needs:
            keys.append("decision" if view.has_logits else "probabilities")
        if "class" in self._needs:
            keys.append(view.class_key)
        return keys

    def _requires_labels(self):
        if self.classifier is None:
            return self._needs_classes or self._default_classifier is not None
        return learns_from_labels(self.classifier)

    def _codes(self, outputs, codes):
        """Return the classes (n,): without labels what is predicted, or one class."""
        if codes[0] >= 0 or not self._view_.has_class:
            return codes.clip(0)
        return to_numpy(outputs.extracted([self._view_.class_key]).predicted())

    def _validate(self, X, *, reset):
        if not isinstance(X, Outputs):
            return check_images(self, X, reset=reset, any_values=True)
        # all rows were when it was made
        check_images(self, X.X[:2], reset=reset, any_values=True)
        classifier = self.classifier if reset else self._view_.classifier
        if classifier is not X.view.classifier:
            raise ValueError(
                "X was extracted with another classifier than this "
                f"{type(self).__name__} has."
            )
        return X

    # ------------------------------------------------------------------------- scoring

    def _row_elements(self):
        return self._view_.row_elements + self._score_elements()

    def _scoring_device(self, X):
        if isinstance(X, Outputs):
            return "cpu"
        return device_of(X) if is_torch(X) else self._view_.device

    def _in_blocks(self, function, X, **options):
        if function == self._inspect and (
            isinstance(X, Outputs) or self._map_elements()
        ):
            # outputs cost no pass; maps have smaller blocks, and rounding of their own
            dtype = options.pop("dtype", None)
            return self._in_blocks(self._anomaly, X, **options), self._in_blocks(
                self._map, X, dtype=dtype, **options
            )
        is_map = function == self._map
        if is_map:
            elements = self._row_elements() + self._map_elements()
            device = self._scoring_device(X)
            options["parts"] = list(blocks(X.shape[0], elements, device))
        view = X.view if isinstance(X, Outputs) else self._view_
        device = device_of(X) if is_torch(X) else view.device
        if str(device) != "cpu":  # what was learned goes there once, not per block
            twin = with_state(self, moved(self._fitted_state(), device))
            function = getattr(twin, function.__name__)
        if not isinstance(X, Outputs):
            view = self._view_.matching(X)
            return super()._in_blocks(partial(function, view), X, **options)
        if not is_map and not self._passes_again() and X.has(self._keys()):
            # the classifier's own temporaries are not needed any more
            elements = self._score_elements() + X.row_elements
            options["parts"] = list(blocks(X.shape[0], elements, X.view.device))
        found = super()._in_blocks(partial(function, X.view), X, **options)
        return like(found, X.X, dtype="keep")

    def _anomaly(self, view, X):
        if not isinstance(X, Outputs):
            X = Outputs(view, X, self._layers())
        return self._score(X)

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
        if self._view_.n_outputs == 0:
            raise ValueError(
                f"This {type(self).__name__} has no classifier, so it predicts no "
                "class: pass one."
            )
        X = self._validate(X, reset=False)
        view = self._view_
        outputs = X
        if not isinstance(X, Outputs):
            outputs = Outputs(view.matching(X), X, self._layers())
        outputs = outputs.extracted([*self._keys(), view.class_key])
        outside = -to_numpy(self._in_blocks(self._anomaly, outputs)) - self.offset_ < 0
        return with_rejection(
            self.classes_, to_numpy(outputs.predicted()), outside, reject
        )

    # ---------------------------------------------------------------------------- maps

    def _map(self, view, X):
        return self._attributed(view, X.X if isinstance(X, Outputs) else X)

    def _inspect(self, view, X):
        anomaly = self._anomaly(view, X)
        return anomaly, self._attributed(view, X, anomaly)

    def _attributed(self, view, X, anomaly=None):
        """Return the map of rows, whose anomaly (b,) may be known."""

        def score(rows):
            outputs = Outputs(view, rows, self._layers(), differentiable=True)
            return self._score(outputs)

        return attribution_map(
            self._attribution_,
            partial(self._anomaly, view),
            score,
            X,
            self._baseline_,
            self.image_shape_,
            anomaly,
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._requires_labels()
        return tags


_NOTHING = ClassifierDetector._learn_from
