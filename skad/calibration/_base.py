"""The base of what calibrates any detector from outside.

The detector that is held checks its input itself, so that tables, frames, tensors,
pictures and series go through unchanged; `Holder` fits and scores it. A class writes

- `_calibrate(X, y, params)`: call `_fit_detector`, which keeps `detector_`, and learn
  from `_calibration_scores` what it needs; `params` go to the detector's `fit`;
- `_fit_offset(X, anomaly)`, the threshold; and only where its scores or maps are not
  the detector's own, `_scores(X, params)`, `_maps(X, params)` and, for both from one
  pass, `_scores_and_maps(X, params)`.
"""

from abc import abstractmethod
from typing import Any, Self

from sklearn import get_config
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import (
    MetadataRequest,
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skad._answers import labels_of
from skad._array import is_torch, to_numpy
from skad._dask import by_block, is_dask
from skad._members import inspect_of, maps_of, scores_of
from skad._parameters import absent, with_parameters
from skad._rows import n_rows, readable
from skad._sklearn import HasMethods, MetaEstimatorMixin, _fit_context
from skad.base import BaseDetector
from skad.calibration._held import (
    Holder,
    innermost,
    scoring_parameters,
    takes_groups,
)


def _has_map(self):
    detector = getattr(self, "detector_", None)
    detector = self._head() if detector is None else detector
    if not hasattr(detector, "transform"):
        raise AttributeError(
            f"{type(detector).__name__} has no anomaly map, only scores; for maps, "
            "take a detector of skad."
        )
    return True


@with_parameters(kw_only=False)
class DetectorAround(Holder, MetaEstimatorMixin, BaseDetector):
    """Base of detectors that are another detector with more around it.

    What else `fit` takes (groups, classes, weights) goes to the detector that is held,
    by scikit-learn's metadata routing where that is enabled. What else the other
    methods take goes to the same method of that detector.

    Parameters
    ----------
    detector : detector, default=None
        Any detector of this package or of scikit-learn, or a pipeline that ends in one.
        It is cloned; one in a ``FrozenEstimator`` is taken as it is, and `fit` gets
        samples that it has not learned from. None is ``Mahalanobis()``.

    Attributes
    ----------
    image_shape_ : tuple of int
        (height, width, channels) of pictures, around detectors on these.
    """

    detector: Any = None

    # its own threshold is what it is for
    contamination: Any = absent()
    false_alarm_rate: Any = absent()
    _data = "detector"
    _honesty = "its own"
    _parameter_constraints = {
        "detector": [HasMethods(["fit", "score_samples"]), None],
    }

    # ------------------------------------------------------------- what a class writes

    @abstractmethod
    def _calibrate(self, X, y, params):
        """Fit the detector and learn from its scores; may return the rows' anomaly."""

    def _scores(self, X, params):
        """Return `score_samples`, of shape (n,)."""
        return scores_of(self.detector_, X, **params)

    def _maps(self, X, params):
        """Return the anomaly maps."""
        return maps_of(self.detector_, X, **params)

    def _scores_and_maps(self, X, params):
        """Return what `_scores` and `_maps` do, from one pass."""
        return inspect_of(self.detector_, X, **params)

    # -------------------------------------------------------------------- the contract

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, **params) -> Self:
        """Fit the detector, unless it is frozen, and calibrate it.

        Parameters
        ----------
        X : array-like, tensor, pictures or series
            Whatever the detector takes.
        y : array-like of shape (n_samples,), default=None
            Passed to the detector. Rows labelled -1, known anomalies, are left out of
            the calibration.
        **params : dict
            Passed to the detector's `fit` (`groups` of series, `y_class` around a
            classifier), and `groups` to a splitter.

        Returns
        -------
        self : object
            The fitted detector.
        """
        return self._learn(X, y, self._fit, forget=True, params=params)

    def score_samples(self, X, **params) -> Any:
        """Return how normal each sample is: higher is more normal.

        Parameters
        ----------
        X : array-like, tensor, pictures or series
            The samples.
        **params : dict
            Passed to the detector (`groups` of series).

        Returns
        -------
        scores : ndarray or tensor of shape (n_samples,), float64
            The scores, in the library and on the device of `X`.
        """
        check_is_fitted(self)
        if is_dask(X):
            return by_block(self, "score_samples", X)
        return self._scores(self._validate(X, reset=False), params)

    def decision_function(self, X, **params) -> Any:
        """Return `score_samples(X) - offset_`: below 0 is an anomaly.

        Parameters
        ----------
        X : array-like, tensor, pictures or series
            The samples.
        **params : dict
            Passed to the detector.

        Returns
        -------
        scores : ndarray or tensor of shape (n_samples,), float64
            The shifted scores.
        """
        return self.score_samples(X, **params) - self.offset_

    def predict(self, X, **params) -> Any:
        """Return 1 for normal samples and -1 for anomalies.

        Parameters
        ----------
        X : array-like, tensor, pictures or series
            The samples.
        **params : dict
            Passed to the detector.

        Returns
        -------
        labels : ndarray or tensor of shape (n_samples,), int64
            The labels.
        """
        if is_dask(X):
            return by_block(self, "predict", X)
        return labels_of(self.decision_function(X, **params))

    def fit_predict(self, X, y=None, **params) -> Any:
        """Fit to `X` and return its labels, as `fit` and then `predict`.

        Parameters
        ----------
        X : array-like, tensor, pictures or series
            Training data.
        y : array-like of shape (n_samples,), default=None
            Passed to `fit`.
        **params : dict
            Passed to `fit`, and to `predict` what it takes.

        Returns
        -------
        labels : ndarray or tensor of shape (n_samples,), int64
            1 for normal samples and -1 for anomalies.
        """
        self.fit(X, y, **params)
        return self.predict(X, **self._scoring(params))

    def inspect(self, X, **params) -> Any:
        """Return scores, decision, labels and maps from one pass over the samples.

        Parameters
        ----------
        X : array-like, tensor, pictures or series
            The samples.
        **params : dict
            Passed to the detector.

        Returns
        -------
        inspection : Inspection
            A named tuple `(scores, decision, labels, maps)` of what `score_samples`,
            `decision_function`, `predict` and `transform` return.
        """
        check_is_fitted(self)
        scores, maps = self._scores_and_maps(self._validate(X, reset=False), params)
        return self._inspection(-scores, maps)

    def transform(self, X, **params) -> Any:
        """Return the anomaly map: how anomalous each element of each sample is.

        Parameters
        ----------
        X : array-like, tensor, pictures or series
            The samples.
        **params : dict
            Passed to the detector.

        Returns
        -------
        maps : ndarray, tensor or frame
            The detector's map; higher is more anomalous.
        """
        check_is_fitted(self)
        if is_dask(X):
            return by_block(self, "transform", X)
        return self._maps(self._validate(X, reset=False), params)

    def fit_transform(self, X, y=None, **params) -> Any:
        """Fit to `X` and return its anomaly map, as `fit` and then `transform`.

        Parameters
        ----------
        X : array-like, tensor, pictures or series
            Training data.
        y : array-like of shape (n_samples,), default=None
            Passed to `fit`.
        **params : dict
            Passed to `fit`, and to `transform` what it takes.

        Returns
        -------
        maps : ndarray, tensor or frame
            Higher is more anomalous.
        """
        self.fit(X, y, **params)
        return self.transform(X, **self._scoring(params))

    def get_metadata_routing(self):
        """Return what goes to the detector, and to a splitter.

        Returns
        -------
        routing : MetadataRouter
            The routing of scikit-learn.
        """
        mapping = MethodMapping()
        for method in ("fit", "predict", "decision_function", "transform"):
            mapping.add(caller=method, callee=method)
        router = MetadataRouter(owner=self)
        if self._uses_groups():
            own = MetadataRequest(owner=self)
            for method in ("fit", "predict", "decision_function", "transform"):
                getattr(own, method).add_request(param="groups", alias=True)
            router.add_self_request(own)
        router.add(detector=self._head(), method_mapping=mapping)
        return router.add(
            splitter=getattr(self, "cv", None),
            method_mapping=MethodMapping().add(caller="fit", callee="split"),
        )

    # ------------------------------------------------------------------------ machinery

    def _uses_groups(self):
        """Tell whether `groups` say something to the class itself."""
        return False

    def _scoring(self, params):
        """Return those parameters of `fit` that the other methods take."""
        kept = scoring_parameters(self._head(), params)
        if self._uses_groups() and "groups" in params:
            kept["groups"] = params["groups"]
        return kept

    def _passed(self, params):
        """Return those parameters that go to the detector."""
        if self._uses_groups() and not takes_groups(self._head()):
            return {name: value for name, value in params.items() if name != "groups"}
        return params

    @property
    def _map_sums_to_score(self):
        detector = getattr(self, "detector_", None)
        return getattr(detector, "_map_sums_to_score", False)

    @property
    def _looks_around(self):
        return getattr(innermost(self._head()), "_looks_around", False)

    def _validate(self, X, *, reset):
        return readable(X)

    def _fit(self, X, y, params):
        if y is not None and (is_torch(y) or not hasattr(y, "__getitem__")):
            y = to_numpy(y)
        groups = params.get("groups")
        if groups is not None and len(groups) != n_rows(X):
            raise ValueError(
                f"groups has {len(groups)} labels for {n_rows(X)} samples."
            )
        splitter = {} if groups is None else {"groups": groups}
        # a frozen detector learns nothing more, and asks for nothing
        if get_config()["enable_metadata_routing"] and not self._is_frozen():
            routed = process_routing(self, "fit", **params)
            params, splitter = routed.detector.fit, routed.splitter.split
        else:
            params = self._passed(params)
        self._split_params_, self._labels_ = splitter, groups
        anomaly = self._calibrate(X, y, params)
        del self._split_params_, self._labels_
        return anomaly

    def _fitted(self):
        """Return a fitted detector that is held."""
        return self.detector_

    def _row_elements(self):
        held = self._fitted()
        inner = isinstance(held, BaseDetector)
        return held._row_elements() if inner else self.n_features_in_

    # called by detectors that hold this one, on rows that are checked

    def _anomaly(self, X):
        return -self._scores(X, {})

    def _map(self, X):
        return self._maps(X, {})

    def _inspect(self, X):
        scores, maps = self._scores_and_maps(X, {})
        return -scores, maps

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self._head())
        tags.input_tags, tags.target_tags = inner.input_tags, inner.target_tags
        tags.non_deterministic = inner.non_deterministic
        return tags


# set only here, since scikit-learn wraps what a class body defines for its frames
DetectorAround.inspect = available_if(_has_map)(DetectorAround.inspect)
DetectorAround.transform = available_if(_has_map)(DetectorAround.transform)
DetectorAround.fit_transform = available_if(_has_map)(DetectorAround.fit_transform)
