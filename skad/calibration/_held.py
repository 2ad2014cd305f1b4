"""The detector that is held: what it takes, how it is fitted and scored on parts."""

import warnings
from inspect import signature

import numpy as np
from sklearn import get_config
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline

from skad._array import to_numpy
from skad._cross_fitting import folds
from skad._labels import label_column, warn_without_anomalies
from skad._members import (
    fit_within,
    scores_of,
    seeded_clone,
    take_over_features,
    without_threshold,
)
from skad._rows import n_rows, per_sample, take_rows
from skad.base import BaseDetector


def innermost(detector):
    """Return the detector inside of what freezes or calibrates it."""
    while True:
        if isinstance(detector, FrozenEstimator):
            detector = detector.estimator
        elif isinstance(detector, Holder):
            detector = detector._head()
        else:
            return detector


def known_anomalies(detector, y, n, params):
    """Return which of `n` samples are labelled as anomalies, of shape (n,).

    Around a classifier `y` are classes, unless these come as `y_class`, and `y_ood`
    says what is an outlier; through a pipeline they come with its step's name.
    """
    if takes_classes(detector):
        named = step_parameters(params)
        y = named.get("y_ood") if named.get("y_class") is None else y
    if y is None:
        return np.zeros(n, dtype=bool)
    labels = label_column(y, n)
    warn_without_anomalies(labels)
    return labels == -1


def takes_classes(detector):
    """Tell whether a detector, also at the end of a pipeline, takes class labels."""
    last = innermost(detector)
    while isinstance(last, Pipeline):
        last = innermost(last[-1])
    return "y_class" in signature(last.fit).parameters


def last_step(detector):
    """Return the detector at the end of a pipeline, any other one as it is."""
    while isinstance(detector, Pipeline):
        detector = detector[-1]
    return detector


def step_parameters(params):
    """Return parameters of a fit without the names of a pipeline's steps."""
    return {name.split("__")[-1]: value for name, value in params.items()}


def takes_groups(detector):
    """Tell whether `groups` tell the rows apart, of series or in a step of a pipeline.

    Pipelines pass them on only where metadata routing is enabled.
    """
    detector = innermost(detector)
    if isinstance(detector, Pipeline):
        steps = [step for _, step in detector.steps if hasattr(step, "fit")]
        enabled = get_config()["enable_metadata_routing"]
        return enabled and any(map(takes_groups, steps))
    method = getattr(detector, "score_samples", getattr(detector, "transform", None))
    return "groups" in signature(method).parameters


def scoring_parameters(detector, params):
    """Return those parameters of `fit` that scoring takes too (groups, not labels)."""
    names = set(signature(innermost(detector).score_samples).parameters)
    names |= {"groups"} if takes_groups(detector) else set()
    return {name: value for name, value in params.items() if name in names}


# Honest scores of a detector that are enough to take no others.
_ENOUGH = 50


class Holder:
    """Fits and scores the detector that a `DetectorAround` holds, as `detector`."""

    def _head(self):
        """Return the detector that is held, unfitted unless it is frozen."""
        if self.detector is None:
            from skad.density import Mahalanobis

            return Mahalanobis()
        return self.detector

    def _is_frozen(self):
        return isinstance(self.detector, FrozenEstimator)

    def _fitted_clone(self, X, y, params, random=None, scores_only=False):
        """Return the detector fitted to some samples, or as it is if it is frozen.

        `random` draws those of its random states that are None. With `scores_only`
        nobody asks for its threshold.
        """
        if random is None or self._is_frozen():
            detector = clone(self._head())
        else:
            detector = seeded_clone(self._head(), random, unset_only=True)
        if scores_only and not self._is_frozen():
            detector = without_threshold(detector)
        return self._fit_to(detector, X, y, params)

    def _fit_to(self, detector, X, y, params):
        # a frozen one may be watched by callbacks of its own
        context = None if self._is_frozen() else self._subtask("fit detector")
        return fit_within(context, self, detector, X, y, **params)

    def _fitted_on(self, rows, X, y, params, reason, random=None):
        """Return the detector fitted to the samples at `rows`, which `reason` left."""
        own = None if y is None else take_rows(y, rows)
        params = self._parameters_on(rows, params, n_rows(X))
        try:
            return self._fitted_clone(take_rows(X, rows), own, params, random, True)
        except ValueError as error:
            name = type(self._head()).__name__
            raise ValueError(
                f"{name} cannot be fitted on the {len(rows)} samples that {reason} "
                f"leaves: {error}"
            ) from error

    def _scores_on(self, rows, member, X, params):
        """Return the scores (m,) of a fitted detector on the samples at `rows`."""
        params = self._parameters_on(rows, params, n_rows(X))
        return to_numpy(scores_of(member, take_rows(X, rows), **params))

    def _parameters_on(self, rows, params, n):
        """Return parameters for the samples at `rows` of `n`."""
        own = {
            name: take_rows(value, rows) if per_sample(value, n) else value
            for name, value in params.items()
        }
        if takes_groups(self._head()) and own.get("groups") is None:
            # no window may cross the gap that the samples left out leave
            own["groups"] = np.cumsum(np.diff(rows, prepend=rows[0] - 1) != 1)
        return own

    def _fit_detector(self, X, y, params, cv=None):
        """Keep the detector, fitted to `X`, and what it knows of its features.

        Returns the anomalies (m,) from which it took its own threshold as if it had not
        learned from them, where `cv` is "auto" and it has such.
        """
        detector, honest = clone(self._head()), None
        last = last_step(detector)
        asks = isinstance(cv, str) and isinstance(last, BaseDetector)
        if asks:
            last._keeps_honest = True
        self.detector_ = self._fit_to(detector, X, y, params)
        if asks:
            honest = vars(last).pop("_honest_", None)
            del last._keeps_honest
        take_over_features(self, self.detector_)
        return honest

    def _calibration_scores(self, X, y, params, cv=None, honest=None):
        """Return scores (m,) of training samples and which these are, (m,).

        Without `cv` they are the scores of `detector_` on all samples. Else each
        comes from a detector that was fitted without the sample, and a splitter may
        leave samples out. Known anomalies (`known_anomalies`) are among them. A frozen
        detector is not fitted again, whatever `cv` is: it has seen none of them.

        With "auto" they are those of `honest`, what `_fit_detector` returned, where
        these are of all samples, or many and of samples that nobody has to tell apart,
        in which case None is returned for which these are.
        """
        n = n_rows(X)
        scoring = scoring_parameters(self._head(), params)
        if cv is None or self._is_frozen():
            return to_numpy(scores_of(self.detector_, X, **scoring)), np.arange(n)
        automatic = isinstance(cv, str)
        if automatic and honest is not None:
            if len(honest) == n:
                return -honest, np.arange(n)
            known = known_anomalies(self._head(), y, n, params).any()
            if len(honest) >= _ENOUGH and not known and not self._uses_groups():
                return -honest, None
        try:
            return self._cross_fitted(X, y, params, cv)
        except ValueError as error:
            if not automatic:
                raise
            warnings.warn(
                f"{error} {type(self).__name__} learns from scores of samples that the "
                "detector has learned from: new ones will score lower.",
                stacklevel=6,
            )
            return self._calibration_scores(X, y, params)

    def _splits(self, cv, X, y):
        """Yield the rows to fit a detector to, and those that it scores."""
        if not isinstance(cv, str):
            return check_cv(cv).split(X, y, **self._split_params_)
        rows = np.arange(n_rows(X))
        if takes_groups(self._head()):
            held = np.array_split(rows, 5)
        else:
            held = folds(len(rows))
        return ((np.setdiff1d(rows, fold), fold) for fold in held)

    def _cross_fitted(self, X, y, params, cv):
        scoring = scoring_parameters(self._head(), params)
        scores, rows = [], []
        for member, test in self._members(X, y, params, cv):
            scores.append(self._scores_on(test, member, X, scoring))
            rows.append(test)
        return np.concatenate(scores), np.concatenate(rows)

    def _members(self, X, y, params, cv):
        """Yield fitted detectors, and the samples that each may calibrate with.

        Copies and what they were fitted without; `detector_` and all samples without
        `cv`, or where it is frozen.
        """
        if cv is None or self._is_frozen():
            yield self.detector_, np.arange(n_rows(X))
            return
        for train, test in self._splits(cv, X, y):
            yield self._fitted_on(train, X, y, params, f"cv={cv}"), test
