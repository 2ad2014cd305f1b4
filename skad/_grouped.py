"""The contract over rows in time, where `groups` says which series each row is of.

A row is whatever a family makes of it, a time step of channels or a frame of a video:
nothing here asks what is in one. A family writes `_validate`, which returns rows as an
array or tensor (n, ...), `_no_rows`, and what errors call a row, `_row`.

A method writes these, all on whole series `x` of shape (t, ...), never on a mixture:

- `_fit_series(series, labels)`: learn from a list of series. It may return the training
  rows' anomaly, a list with one array (t,) per series; otherwise the base scores them.
- `_anomaly(x)` of shape (t,) and `_map(x)`; higher is more anomalous.
- `_settle(series)`: what `_min_steps` needs to know of all training series, first.
- `_min_steps()`: the fewest rows that a series must have to be learned from, and the
  name of the parameter that says so; `_fewest_scored()` to be scored, the same number.
  Among longer ones, shorter ones are not learned from, and scored with their first row
  before them.
- `_reach()`, how many rows before and after a row its score depends on; None is all.
- `_streams()`, whether no score looks ahead; then `score_stream` works, and
  `_past_steps(n_seen)` says how many of the last rows the next score needs. A method
  that scores the end of a series for less than the whole overrides `_anomaly_from`; one
  that keeps something else than rows overrides `_start_stream` and `_continue_stream`.
"""

import warnings
from abc import abstractmethod
from typing import Any, Self

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skad._answers import Inspection, labels_of
from skad._array import device_of, like, namespace, to_numpy
from skad._group_rows import long_enough, longer, n_rows, series_rows, take
from skad._labels import check_labels
from skad._limits import effective_size, upper_limit
from skad._sklearn import _fit_context, splits_series
from skad._stretches import stretch_fitted
from skad.base import BaseDetector


class GroupedDetector(BaseDetector):
    """Base of detectors on rows in time; the module's docstring says what they write.

    Wherever `X` goes, `groups` may go with it. Meta-estimators of scikit-learn pass
    it on by metadata routing, and it is requested unless `set_fit_request` and its
    like say otherwise: no detector may run over a boundary unasked.
    """

    _uses_labels = False
    _looks_around = True
    _row = "row"
    __metadata_request__fit = {"groups": True}
    __metadata_request__predict = {"groups": True}
    __metadata_request__decision_function = {"groups": True}
    __metadata_request__transform = {"groups": True}

    # ------------------------------------------------------------- what a family writes

    @abstractmethod
    def _validate(self, X, *, reset):
        """Return `X` as checked rows (n, ...), an array or tensor; `reset` in fits."""

    @abstractmethod
    def _no_rows(self):
        """Return an array (0, ...) of no rows, with which a stream begins anew."""

    # ------------------------------------------------------------- what a method writes

    @abstractmethod
    def _fit_series(self, series, labels):
        """Learn from a list of series (t, ...); may return a list of anomalies (t,).

        `labels` is None, or with `_uses_labels` a list of arrays (t,): 1 normal, -1 a
        known anomaly, 0 unlabelled.
        """

    def _settle(self, series):
        """Settle what `_min_steps` depends on, by all training series (t, ...)."""

    def _min_steps(self):
        """Return the fewest rows of a series that can be learned from, and why."""
        return 1, ""

    def _reach(self):
        """Return how many rows around a row its score depends on; None is all."""
        return None

    def _known_settings(self):
        """Return parameters that a copy for part of the data takes from the whole."""
        return {}

    def _streams(self):
        """Tell whether no score depends on later rows."""
        return False

    def _past_steps(self, n_seen):
        """Return how many of the last of `n_seen` rows the next score depends on."""
        raise NotImplementedError

    def _anomaly_from(self, x, begin):
        """Return the anomaly (t - begin,) of the rows of a series from `begin` on."""
        return self._anomaly(x)[begin:]

    def _start_stream(self, x):
        """Keep what `score_stream` needs to go on after the series `x` (t, ...)."""
        n_seen = x.shape[0]
        kept = self._past_steps(n_seen)
        # a copy, so that the training data are not kept alive
        self._stream_ = n_seen, np.array(to_numpy(x[n_seen - kept :]))

    def _continue_stream(self, rows):
        """Return the anomaly of the rows that come next, and keep what they change."""
        n_seen, past = self._stream_

        def continued(rows):
            x = namespace(rows).concat([like(past, rows), rows])
            return self._anomaly_from(x, len(past))

        anomaly = BaseDetector._in_blocks(self, continued, rows, parts=[slice(None)])
        n_seen += rows.shape[0]
        known = np.concatenate([past, to_numpy(rows)])
        kept = self._past_steps(n_seen)
        self._stream_ = n_seen, known[len(known) - kept :].copy()
        return anomaly

    # -------------------------------------------------------------------- the contract

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, groups=None) -> Self:
        """Learn what is normal.

        Parameters
        ----------
        X : array-like or tensor of shape (n_timesteps, ...)
            Training data, at least two rows, in order of time: channels or pictures,
            whatever the method takes.
        y : array-like of shape (n_timesteps,), default=None
            Labels for the methods that use them: 1 normal, -1 a known anomaly,
            0 unlabelled. The others ignore it.
        groups : array-like of shape (n_timesteps,), default=None
            Which series each row belongs to; None is one series. Rows of one series
            are in order, and may be interrupted by others.

        Returns
        -------
        self : object
            The fitted detector.
        """
        return self._learn(X, y, self._fit, forget=self._forgets(), groups=groups)

    def score_samples(self, X, groups=None) -> Any:
        """Return how normal each time step is: higher is more normal.

        Parameters
        ----------
        X : array-like or tensor of shape (n_timesteps, ...)
            The rows, in order of time.
        groups : array-like of shape (n_timesteps,), default=None
            Which series each row belongs to.

        Returns
        -------
        scores : ndarray or tensor of shape (n_timesteps,), float64
            The scores, in the library and on the device of `X`.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        return -self._by_series(self._anomaly, X, groups)

    def decision_function(self, X, groups=None) -> Any:
        """Return `score_samples(X, groups) - offset_`: below 0 is an anomaly.

        Parameters
        ----------
        X : array-like or tensor of shape (n_timesteps, ...)
            The rows, in order of time.
        groups : array-like of shape (n_timesteps,), default=None
            Which series each row belongs to.

        Returns
        -------
        scores : ndarray or tensor of shape (n_timesteps,), float64
            The shifted scores.
        """
        return self.score_samples(X, groups) - self.offset_

    def predict(self, X, groups=None) -> Any:
        """Return 1 for normal time steps and -1 for anomalies.

        Parameters
        ----------
        X : array-like or tensor of shape (n_timesteps, ...)
            The rows, in order of time.
        groups : array-like of shape (n_timesteps,), default=None
            Which series each row belongs to.

        Returns
        -------
        labels : ndarray or tensor of shape (n_timesteps,), int64
            The labels.
        """
        return labels_of(self.decision_function(X, groups))

    def fit_predict(self, X, y=None, groups=None) -> Any:
        """Fit to `X` and return its labels, as `fit` and then `predict`.

        Parameters
        ----------
        X : array-like or tensor of shape (n_timesteps, ...)
            Training data.
        y : array-like of shape (n_timesteps,), default=None
            Passed to `fit`.
        groups : array-like of shape (n_timesteps,), default=None
            Which series each row belongs to.

        Returns
        -------
        labels : ndarray or tensor of shape (n_timesteps,), int64
            1 for normal time steps and -1 for anomalies.
        """
        return self.fit(X, y, groups).predict(X, groups)

    def inspect(self, X, groups=None) -> Inspection:
        """Return scores, decision, labels and maps from one pass over the rows.

        Parameters
        ----------
        X : array-like or tensor of shape (n_timesteps, ...)
            The rows, in order of time.
        groups : array-like of shape (n_timesteps,), default=None
            Which series each row belongs to.

        Returns
        -------
        inspection : Inspection
            A named tuple `(scores, decision, labels, maps)` of what `score_samples`,
            `decision_function`, `predict` and `transform` return.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        return self._inspection(
            *self._by_series(self._inspect, X, groups, dtype=X.dtype)
        )

    def transform(self, X, groups=None) -> Any:
        """Return the anomaly map: how anomalous each part of each row is.

        Parameters
        ----------
        X : array-like or tensor of shape (n_timesteps, ...)
            The rows, in order of time.
        groups : array-like of shape (n_timesteps,), default=None
            Which series each row belongs to.

        Returns
        -------
        maps : ndarray, tensor or frame of shape (n_timesteps, ...)
            Higher is more anomalous, in the dtype of `X`. The class says how the map
            relates to the score.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        return self._by_series(self._map, X, groups, dtype=X.dtype)

    def fit_transform(self, X, y=None, groups=None) -> Any:
        """Fit to `X` and return its anomaly map, as `fit` and then `transform`.

        Parameters
        ----------
        X : array-like or tensor of shape (n_timesteps, ...)
            Training data.
        y : array-like of shape (n_timesteps,), default=None
            Passed to `fit`.
        groups : array-like of shape (n_timesteps,), default=None
            Which series each row belongs to.

        Returns
        -------
        maps : ndarray, tensor or frame of shape (n_timesteps, ...)
            Higher is more anomalous.
        """
        return self.fit(X, y, groups).transform(X, groups)

    @available_if(lambda self: self._streams())
    def score_stream(self, X) -> Any:
        """Return how normal the time steps are that come next.

        The first call goes on where the last training series ended, each later call
        where the one before did: the scores are those of the whole series in one call
        of `score_samples`, whatever the pieces.

        Parameters
        ----------
        X : array-like or tensor of shape (n_timesteps, ...)
            The next time steps, at least one.

        Returns
        -------
        scores : ndarray or tensor of shape (n_timesteps,), float64
            Higher is more normal; below `offset_` is an anomaly.
        """
        check_is_fitted(self)
        return -self._continue_stream(self._validate(X, reset=False))

    @available_if(lambda self: self._streams())
    def reset_stream(self):
        """Forget what `score_stream` has seen: the next time step begins a new series.

        Returns
        -------
        self : object
            The detector.
        """
        check_is_fitted(self)
        self._start_stream(self._no_rows())
        return self

    # ------------------------------------------------------------------------ machinery

    def _fit(self, X, y, groups=None):
        self._warn_without(groups, "train", "fit")
        rows = self._series_rows(groups, X.shape[0])
        self._settle([take(X, own) for own in rows])
        kept = self._learned_rows_ = long_enough(
            rows, *self._min_steps(), self._row, "not learned from and "
        )
        labels = None
        if self._uses_labels and y is not None:
            labels = check_labels(y, X.shape[0])
            labels = [labels[own] for own in kept]
        anomaly = self._fit_series([take(X, own) for own in kept], labels)
        del self._learned_rows_
        if not self._needs_seen():
            whole = None
        elif anomaly is None or len(kept) < len(rows):
            function = longer(self._anomaly, self._fewest_scored())
            whole = BaseDetector._in_blocks(
                self, function, X, parts=rows, progress="score"
            )
        else:
            whole = namespace(X).empty(
                X.shape[0], dtype=anomaly[0].dtype, device=device_of(X)
            )
            for own, part in zip(rows, anomaly, strict=True):
                whole[own] = part
        if self._streams():
            self._start_stream(take(X, rows[-1]))
        return whole

    def _seen_anomaly(self, X, anomaly):
        if anomaly is None:
            anomaly = self._by_series(self._anomaly, X, None)
        return anomaly

    def _needs_seen(self):
        """Tell whether the threshold needs scores of all training rows, once fitted."""
        return True

    def _honest_anomaly(self, X, y, anomaly, groups=None):
        return stretch_fitted(self, X, y, self._honest_rows(X, groups), anomaly)

    def _honest_rows(self, X, groups):
        """Return where each series lies that is learned from."""
        rows = self._series_rows(groups, X.shape[0])
        return [own for own in rows if n_rows(own) >= self._min_steps()[0]]

    def _limit(self, anomaly):
        # rows that follow each other have much in common
        n_effective = effective_size(anomaly)
        return upper_limit(anomaly, self.false_alarm_rate, n_effective=n_effective)

    def _stretch_anomaly(self, X, places, start, stop):
        """Return the anomaly (stop - start,) of a stretch of the series at `places`."""
        reach = self._reach()
        first, last = 0, len(places)
        if reach is not None:
            first, last = max(0, start - reach), min(last, stop + reach)
        x = take(X, places[first:last])
        anomaly = BaseDetector._in_blocks(self, self._anomaly, x, parts=[slice(None)])
        return anomaly[start - first : stop - first]

    def _by_series(self, function, X, groups, **options):
        """Apply `function` to each series of `X`; the result lives where `X` lives."""
        self._warn_without(groups, "test", "scores")
        X, groups, whole = self._present(X, groups)
        rows = self._series_rows(groups, X.shape[0])
        least = self._fewest_scored()
        long_enough(rows, least, self._min_steps()[1], self._row, "")
        function = longer(function, least)
        # whole series, not blocks of rows: what is in one is the method's business
        found = BaseDetector._in_blocks(self, function, X, parts=rows, **options)
        return found if whole is None else whole(found)

    def _present(self, X, groups):
        """Return rows and groups without what is missing, and what then is of all rows.

        The third is a function of the results, or None where no row is left out.
        """
        return X, groups, None

    def _fewest_scored(self):
        """Return how many rows a series needs to be scored as it is."""
        return self._min_steps()[0]

    def _warn_without(self, groups, rows, what):
        if groups is None and not self._is_copy and splits_series(rows):
            warnings.warn(
                f"A cross-validation parts the {self._row}s into series, and {what} of "
                f"{type(self).__name__} take no notice of groups: series run into one "
                "another. Enable metadata routing, sklearn.set_config("
                "enable_metadata_routing=True), and pass params={'groups': groups} to "
                "cross_validate, or groups=groups to the fit of a search.",
                stacklevel=6,
            )

    def _series_rows(self, groups, n):
        return series_rows(groups, n, self._row)
