"""Scorers for searches that turn the sign and survive folds of normal rows."""

import inspect
import warnings

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils.metadata_routing import MetadataRequest

from skad.metrics._labels import host, is_anomaly, one_of
from skad.metrics._pate import pate
from skad.metrics._points import average_precision
from skad.metrics._vus import vus_pr, vus_roc


def make_series_scorer(
    metric, *, metric_params=None, response_method="score_samples", undefined=0.0
):
    """Return a scorer for ``GridSearchCV(scoring=...)`` from a metric of this package.

    The scorer calls ``detector.score_samples`` and passes its negative as the anomaly
    score, so that the labels of the search are skad's (1 normal, -1 an anomaly; or
    others with ``pos_label``) and higher is better.

    A test fold without an anomaly scores `undefined`, with an `UndefinedMetricWarning`:
    the same for every candidate, so that the search ranks them by the other folds (the
    reported means then include it). With ``undefined=float("nan")`` the fold is visible
    as missing in single scores, but scikit-learn's mean over folds is then NaN for
    every candidate, and the search cannot choose.

    With metadata routing, `groups` (the series that each row belongs to) reach the
    scorer: the result is the mean over the series of a fold for which the metric is
    defined, and events never cross from one to the next. They are passed on to the
    detector's `score_samples` where it takes them.

    Parameters
    ----------
    metric : callable
        ``metric(y_true, anomaly_score)``, or ``metric(y_true, y_pred)``.
    metric_params : dict, default=None
        More arguments of `metric`.
    response_method : {"score_samples", "predict"}, default="score_samples"
        What the metric judges: scores, or decisions at the detector's threshold.
    undefined : float, default=0.0
        Score of a fold for which the metric is not defined.

    Returns
    -------
    scorer : callable
        ``scorer(detector, X, y, groups=None)``, higher = better.

    Examples
    --------
    >>> from skad import KNN
    >>> from skad.metrics import event_f1, make_series_scorer
    >>> scorer = make_series_scorer(event_f1, response_method="predict")
    >>> X, y = [[0.0], [0.1], [0.2], [9.0], [0.3]], [1, 1, 1, -1, 1]
    >>> scorer(KNN(n_neighbors=1, contamination=0.2).fit(X), X, y)
    1.0
    """
    one_of(response_method, ("score_samples", "predict"), "response_method")
    return SeriesScorer(metric, response_method, undefined, metric_params or {})


def vus_pr_scorer(window=100, *, form="tsb", undefined=0.0, pos_label=None):
    """Return a scorer by `vus_pr`; see `make_series_scorer`.

    Parameters
    ----------
    window : int, default=100
        Largest buffer; the usual choice is the period of the series.
    form : {"tsb", "original"}, default="tsb"
        As in `vus_pr`.
    undefined : float, default=0.0
        Score of a fold without an anomaly, as in `make_series_scorer`.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    scorer : callable
        For ``GridSearchCV(scoring=...)``.

    Examples
    --------
    >>> from skad.metrics import vus_pr_scorer
    >>> vus_pr_scorer(window=50)
    SeriesScorer(vus_pr, window=50, form='tsb')
    """
    params = {"window": window, "form": form}
    return _named(vus_pr, undefined, params, pos_label)


def vus_roc_scorer(window=100, *, form="tsb", undefined=0.0, pos_label=None):
    """Return a scorer by `vus_roc`; see `make_series_scorer`.

    Parameters
    ----------
    window : int, default=100
        Largest buffer; the usual choice is the period of the series.
    form : {"tsb", "original"}, default="tsb"
        As in `vus_pr`.
    undefined : float, default=0.0
        Score of a fold without an anomaly, as in `make_series_scorer`.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    scorer : callable
        For ``GridSearchCV(scoring=...)``.

    Examples
    --------
    >>> from skad.metrics import vus_roc_scorer
    >>> vus_roc_scorer(window=50, form="original")
    SeriesScorer(vus_roc, window=50, form='original')
    """
    params = {"window": window, "form": form}
    return _named(vus_roc, undefined, params, pos_label)


def pate_scorer(early_buffer=100, delay_buffer=100, *, undefined=0.0, pos_label=None):
    """Return a scorer by `pate`; see `make_series_scorer`.

    Parameters
    ----------
    early_buffer : int, default=100
        Most steps before an event that count.
    delay_buffer : int, default=100
        Most steps behind an event that count.
    undefined : float, default=0.0
        Score of a fold without an anomaly, as in `make_series_scorer`.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    scorer : callable
        For ``GridSearchCV(scoring=...)``.

    Examples
    --------
    >>> from skad.metrics import pate_scorer
    >>> pate_scorer(20, 20)
    SeriesScorer(pate, early_buffer=20, delay_buffer=20)
    """
    params = {"early_buffer": early_buffer, "delay_buffer": delay_buffer}
    return _named(pate, undefined, params, pos_label)


def average_precision_scorer(*, undefined=0.0, pos_label=None):
    """Return a scorer by `average_precision`; see `make_series_scorer`.

    Parameters
    ----------
    undefined : float, default=0.0
        Score of a fold without an anomaly, as in `make_series_scorer`.
    pos_label : object, default=None
        Label of an anomaly, where labels are not -1 and 1 or booleans.

    Returns
    -------
    scorer : callable
        For ``GridSearchCV(scoring=...)``.

    Examples
    --------
    >>> from skad.metrics import average_precision_scorer
    >>> average_precision_scorer()
    SeriesScorer(average_precision)
    """
    return _named(average_precision, undefined, {}, pos_label)


def _named(metric, undefined, params, pos_label):
    if pos_label is not None:
        params = {**params, "pos_label": pos_label}
    return make_series_scorer(metric, metric_params=params, undefined=undefined)


class SeriesScorer:
    """A metric, the method that it judges, and what an undefined fold gets."""

    def __init__(self, metric, response_method, undefined, metric_params):
        self._metric = metric
        self._response_method = response_method
        self._undefined = undefined
        self._metric_params = metric_params
        self._takes_groups = True

    def __call__(self, estimator, X, y_true, groups=None):
        response = self._respond(estimator, X, groups)
        y_true = host(y_true)
        if groups is None:
            parts = [slice(None)]
        else:
            groups = host(groups)
            parts = [groups == group for group in np.unique(groups)]
        values = [self._value(y_true[rows], response[rows]) for rows in parts]
        values = [value for value in values if not np.isnan(value)]
        if values:
            return float(np.mean(values))
        warnings.warn(
            f"{self._name} is not defined on a test fold (no anomaly in it); the fold "
            f"scores {self._undefined}, as it does for every candidate.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
        return float(self._undefined)

    def _respond(self, estimator, X, groups):
        """Return the anomaly scores, or where the detector flags an anomaly."""
        method = getattr(estimator, self._response_method)
        takes = "groups" in inspect.signature(method).parameters
        response = host(
            method(X, groups=groups) if takes and groups is not None else method(X)
        )
        return response == -1 if self._response_method == "predict" else -response

    def _value(self, y_true, response):
        params = self._metric_params
        if self._response_method == "predict":
            # the labels may have a code of their own, the decisions are booleans
            y_true = is_anomaly(y_true, params.get("pos_label"))
            params = {name: params[name] for name in params if name != "pos_label"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            return self._metric(y_true, response, **params)

    @property
    def _name(self):
        return getattr(self._metric, "__name__", repr(self._metric))

    def __repr__(self):
        params = [f"{name}={value!r}" for name, value in self._metric_params.items()]
        if self._response_method != "score_samples":
            params.insert(0, f"response_method={self._response_method!r}")
        return f"SeriesScorer({', '.join([self._name, *params])})"

    def set_score_request(self, *, groups=True):
        """Say whether metadata routing passes `groups` to the scorer (by default)."""
        self._takes_groups = groups
        return self

    def get_metadata_routing(self):
        """Return what the scorer asks for from metadata routing."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="groups", alias=self._takes_groups)
        return request
