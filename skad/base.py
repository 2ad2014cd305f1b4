"""The contract: what every detector does the same way, written once.

A method states its mathematics in `_fit` and in one of two ways to score, both with
higher = more anomalous: `_map` alone where the score is the sum of the map (then
`_map_sums_to_score` is true), or `_anomaly` with a `_map` that the method's docstring
relates to it. Validation, sign, threshold, blocks, devices and outputs live here.
"""

from abc import ABCMeta, abstractmethod
from numbers import Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    OneToOneFeatureMixin,
    OutlierMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted

from skad._array import (
    block_rows,
    device_of,
    is_torch,
    like,
    namespace,
    on_device,
    on_host,
    resolve_device,
    slices,
    to_numpy,
)
from skad._callbacks import FitCallbacksMixin
from skad._dask import Blocks, by_block, is_dask
from skad._sklearn import Interval, _fit_context
from skad._validation import check_table

CONTAMINATION = [Interval(Real, 0, 0.5, closed="right")]


class BaseDetector(
    FitCallbacksMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
    OutlierMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base of every detector; see the module's docstring for what a method writes.

    Fitted state, public or private, ends in an underscore: a second `fit` drops all of
    it before it learns, and a `fit` that fails puts all of it back.
    """

    _map_sums_to_score = False
    # Whether a row's score depends on the rows around it, as in series.
    _looks_around = False

    # ------------------------------------------------------------- what a method writes

    @abstractmethod
    def _fit(self, X, y):
        """Learn normality; may return the training rows' anomaly, of shape (n,)."""

    def _add(self, X, y):
        """Learn more rows, for `partial_fit`: `_fit`, where that adds to the known."""
        return self._fit(X, y)

    def _anomaly(self, X):
        """Return how anomalous each row of a block is, of shape (b,)."""
        return namespace(X).sum(self._map(X), axis=1)

    @abstractmethod
    def _map(self, X):
        """Return how anomalous each element of a block is, of shape (b, d)."""

    def _validate(self, X, *, reset):
        """Return `X` as a checked array or tensor; `reset` when fitting."""
        return check_table(self, X, reset=reset)

    def _check_parameters(self, X):
        """Raise ValueError for parameters that do not fit the training data."""

    def _row_elements(self):
        """Return how many temporary elements one row needs while it is scored."""
        return self.n_features_in_

    def _block_rows(self, device):
        """Return how many rows are scored together on `device`."""
        return block_rows(self._row_elements(), device)

    def _fit_work(self, X):
        """Return the multiplications that `fit` needs, for `device="auto"`."""
        return X.shape[0] * X.shape[1]

    def _fit_offset(self, X, anomaly):
        """Return the threshold: the `contamination` quantile of training scores."""
        if anomaly is None:
            anomaly = self._in_blocks(self._anomaly, X, progress="score")
        return float(np.quantile(-to_numpy(anomaly), self.contamination))

    def _fit_blocks(self, blocks):
        """Learn as `_fit` does from `skad._dask.Blocks`, where statistics add up."""
        raise ValueError(
            f"{type(self).__name__} learns from all rows at once, and X is a Dask "
            "collection: pass rows that fit in memory, X.compute()."
        )

    # -------------------------------------------------------------------- the contract

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn what is normal.

        Parameters
        ----------
        X : array-like, tensor or Dask collection of shape (n_samples, n_features)
            Training data, at least two rows. Dask where statistics of blocks add up.
        y : array-like of shape (n_samples,), default=None
            Labels for the methods that use them: 1 normal, -1 a known anomaly,
            0 unlabelled. The others ignore it.

        Returns
        -------
        self : object
            The fitted detector.
        """
        forget = not getattr(self, "warm_start", False)
        return self._learn(X, y, self._fit, forget=forget)

    def score_samples(self, X):
        """Return how normal each sample is: higher is more normal.

        Parameters
        ----------
        X : array-like, tensor or Dask collection of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        scores : ndarray or tensor of shape (n_samples,), float64
            The scores, in the library and on the device of `X`; a lazy array for Dask.
        """
        check_is_fitted(self)
        if is_dask(X):
            return by_block(self, "score_samples", X)
        X = self._validate(X, reset=False)
        return -self._in_blocks(self._anomaly, X)

    def decision_function(self, X):
        """Return `score_samples(X) - offset_`: below 0 is an anomaly.

        Parameters
        ----------
        X : array-like, tensor or Dask collection of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        scores : ndarray or tensor of shape (n_samples,), float64
            The shifted scores.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Return 1 for normal samples and -1 for anomalies.

        Parameters
        ----------
        X : array-like, tensor or Dask collection of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        labels : ndarray or tensor of shape (n_samples,), int64
            The labels.
        """
        if is_dask(X):
            return by_block(self, "predict", X)
        scores = self.decision_function(X)
        xp = namespace(scores)
        return xp.astype(scores >= 0, xp.int64) * 2 - 1

    def fit_predict(self, X, y=None):
        """Fit to `X` and return its labels, as `fit(X, y).predict(X)`.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,), default=None
            Passed to `fit`.

        Returns
        -------
        labels : ndarray or tensor of shape (n_samples,), int64
            1 for normal samples and -1 for anomalies.
        """
        return self.fit(X, y).predict(X)

    def transform(self, X):
        """Return the anomaly map: how anomalous each element of each sample is.

        Parameters
        ----------
        X : array-like, tensor or Dask collection of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        maps : ndarray, tensor or frame of shape (n_samples, n_features)
            Higher is more anomalous, in the dtype of `X`. The class says how the map
            relates to the score.
        """
        check_is_fitted(self)
        if is_dask(X):
            return by_block(self, "transform", X)
        X = self._validate(X, reset=False)
        return self._in_blocks(self._map, X, dtype=X.dtype)

    # ------------------------------------------------------------------------ machinery

    def _learn(self, X, y, learn, *, forget):
        """Call `learn` and set the threshold; an error leaves everything as it was."""
        before = self._fitted_state()
        if forget:
            self._replace_fitted_state({})
        try:
            if is_dask(X):
                X, learn = Blocks(X, self), self._learn_blocks
            else:
                # the first call of partial_fit knows nothing either
                X = self._validate(X, reset=not hasattr(self, "n_features_in_"))
            self._check_parameters(X)
            self._begin_callbacks(X, y)
            if "device" in self._parameter_constraints:
                self.device_ = resolve_device(self.device, X, self._fit_work(X))
                anomaly = learn(on_device(X, self.device_), y)
            else:
                anomaly = learn(X, y)
            self.offset_ = self._fit_offset(X, anomaly)
            self._end_callbacks(X, y)
        except BaseException:
            self._replace_fitted_state(before)
            raise
        return self

    def _learn_blocks(self, blocks, y):
        if hasattr(self, "offset_"):
            raise ValueError(
                f"This {type(self).__name__} is fitted and would go on learning, from "
                "rows in memory alone: pass X.compute(), block by block."
            )
        self._fit_blocks(blocks)
        return blocks.anomaly()

    def _fitted_state(self):
        return {name: value for name, value in vars(self).items() if name[-1] == "_"}

    def _replace_fitted_state(self, state):
        for name in self._fitted_state():
            delattr(self, name)
        vars(self).update(state)

    def _in_blocks(self, function, X, dtype=None, progress=None, parts=None):
        """Apply `function` to blocks of rows; the result lives where `X` lives.

        `parts` are the blocks where a method has its own, slices or indices.
        """
        xp = namespace(X)
        if dtype is None:
            on_mps = is_torch(X) and X.device.type == "mps"
            dtype = xp.float32 if on_mps else xp.float64
        device = self._scoring_device(X)
        if parts is None:
            parts = list(slices(X.shape[0], self._block_rows(device)))
        if progress is not None:
            parts = self._steps(parts, progress, len(parts))
        result = None
        for rows in parts:
            part = xp.astype(
                like(function(on_device(X[rows], device)), X, dtype="keep"), dtype
            )
            if result is None:
                shape = (X.shape[0], *part.shape[1:])
                result = (X.new_empty if is_torch(X) else np.empty)(shape, dtype=dtype)
            result[rows] = part
        if not xp.all(xp.isfinite(result)):
            raise ValueError(
                f"X has values too large for {type(self).__name__}: scores overflow "
                f"{X.dtype}. Scale the features (StandardScaler) or pass float64."
            )
        return result

    def _scoring_device(self, X):
        """Return the device that scores `X`: its own where the method has no say."""
        if "device" not in self._parameter_constraints:
            return device_of(X)
        return X.device if is_torch(X) and self.device == "auto" else self.device_

    # ----------------------------------------------------------------------- the state

    def __getstate__(self):
        """Keep tensors on the host, so that a machine without the GPU can load them."""
        return on_host(super().__getstate__())

    def __setstate__(self, state):
        """Score on the host where the GPU of the fit is missing."""
        if state.get("device_", "cpu") != "cpu":
            import torch

            if not torch.cuda.is_available():
                state = {**state, "device_": "cpu"}
        super().__setstate__(state)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class IncrementalMixin:
    """Adds `partial_fit` to a detector whose `_add`, or `_fit`, adds to what is known.

    The threshold is the quantile over all training rows after `fit`. A stream cannot
    be kept, so after `partial_fit` it is the quantile over at most `_SAMPLE_ROWS` rows
    spread evenly over everything seen (every row, then every second, every fourth...).
    """

    _SAMPLE_ROWS = 4096

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Add rows to what is known as normal.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            More training data, at least one row.
        y : array-like of shape (n_samples,), default=None
            Ignored.

        Returns
        -------
        self : object
            The fitted detector.
        """
        return self._learn(X, y, self._add, forget=False)

    def _fit_offset(self, X, anomaly):
        n_before = self.n_samples_seen_ - X.shape[0]
        stride, rows = getattr(self, "_sample_", (1, to_numpy(X[:0])))
        n_rows = X.shape[0]
        while (
            len(rows) + len(range(-n_before % stride, n_rows, stride))
            > self._SAMPLE_ROWS
        ):
            stride, rows = 2 * stride, rows[::2]
        fresh = to_numpy(X[-n_before % stride :: stride])
        rows = np.concatenate([rows, fresh])  # copies, so X is not kept alive
        self._sample_ = (stride, rows)
        if n_before:
            X, anomaly = like(rows, X), None
        return super()._fit_offset(X, anomaly)

    def _check_mergeable(self, other):
        """Raise unless both are fitted, of one class, on as many features."""
        name = type(self).__name__
        check_is_fitted(self)
        if type(other) is not type(self):
            raise TypeError(f"other is a {type(other).__name__}, not a {name}.")
        check_is_fitted(other)
        if self.n_features_in_ != other.n_features_in_:
            raise ValueError(
                f"other has {other.n_features_in_} features, this {name} has "
                f"{self.n_features_in_}; only equal numbers can be merged."
            )

    def _merge_sample(self, other):
        """Take the other's sample of rows in, and set the threshold anew."""
        (stride, rows), (other_stride, other_rows) = self._sample_, other._sample_
        # thin both to one stride, a power of two, so that every row counts the same
        while stride < other_stride:
            stride, rows = 2 * stride, rows[::2]
        other_rows = other_rows[:: stride // other_stride]
        rows = np.concatenate([rows, other_rows])
        while len(rows) > self._SAMPLE_ROWS:
            stride, rows = 2 * stride, rows[::2]
        self._sample_ = (stride, rows)
        self.offset_ = BaseDetector._fit_offset(self, rows, None)
