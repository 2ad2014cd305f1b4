"""The contract: what every detector does the same way, written once.

A method states its mathematics in `_fit` and in one of two ways to score, both with
higher = more anomalous: `_map` alone where the score is the sum of the map (then
`_map_sums_to_score` is true), or `_anomaly` with a `_map` that the method's docstring
relates to it. Where both need the same (features of a backbone, neighbours), `_inspect`
returns both from one pass. Validation, sign, blocks and devices live here, the
threshold in `skad._offset`.
"""

from abc import ABCMeta, abstractmethod
from functools import partial
from math import inf
from numbers import Real
from typing import Any, ClassVar, Self

from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted

from skad._answers import Inspection, check_threshold, labels_of
from skad._array import (
    block_rows,
    device_of,
    is_torch,
    namespace,
    on_device,
    on_host,
    over_blocks,
    resolve_device,
    row_sums,
    slices,
)
from skad._callbacks import FitCallbacksMixin
from skad._dask import Blocks, by_block, is_dask
from skad._needed import need_chosen
from skad._off_origin import warn_of_origin
from skad._offset import OffsetMixin
from skad._parameters import with_parameters
from skad._sklearn import Interval, ScikitLearnDetector, StrOptions, _fit_context
from skad._sparse import check_dense_size, rows_to_learn
from skad._strays import warn_of_strays
from skad._validation import check_table


@with_parameters
class BaseDetector(
    OffsetMixin, FitCallbacksMixin, ScikitLearnDetector, metaclass=ABCMeta
):
    """Base of every detector; see the module's docstring for what a method writes.

    Fitted state, public or private, ends in an underscore: a second `fit` drops all of
    it before it learns, and a `fit` that fails puts all of it back.

    Parameters
    ----------
    contamination : "auto" or float, default="auto"
        "auto" sets `offset_` so that about `false_alarm_rate` of new normal samples
        fall below it. A number in (0, 0.5] is the share of the training samples below
        it, as in scikit-learn, for training data that hold anomalies.
    false_alarm_rate : float, default=0.05
        With ``contamination="auto"`` the share of new normal samples that `predict` may
        call anomalies, in (0, 0.5].

    Attributes
    ----------
    offset_ : float
        ``decision_function = score_samples - offset_``.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` has string names.
    """

    contamination: str | float = "auto"
    false_alarm_rate: float = 0.05

    _parameter_constraints = {
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "false_alarm_rate": [Interval(Real, 0, 0.5, closed="right")],
    }
    _data: ClassVar[str] = "rows"  # what it looks at; the base of a family states it
    _ignores_units: ClassVar[bool] = False  # whether units of features change no rank
    # How many distances between the quartiles a value is off that hides other rows.
    _hiding_times: ClassVar[float] = inf
    # How many deviations off the origin rows are all alike to it.
    _origin_times: ClassVar[float] = inf
    _map_sums_to_score = False
    _is_copy = False  # whether it is fitted inside of another, which warns for it
    _exports = False  # whether `skad.export` can write it, by its `_graph`
    _looks_around = False  # whether the rows around a row count, as in series
    _least_rows = 2  # that `fit` takes
    _reads_missing = False  # whether NaN may stand for a value that is missing
    _fits_sparse = False  # whether `_fit` may get a CSR array
    _reads_sparse = False  # the same, and blocks to score as well

    # ------------------------------------------------------------- what a method writes

    @abstractmethod
    def _fit(self, X, y):
        """Learn normality; may return the training rows' anomaly, of shape (n,)."""

    def _add(self, X, y, **params):
        """Learn more rows, for `partial_fit`: `_fit`, where that adds to the known."""
        return self._fit(X, y, **params)

    def _anomaly(self, X):
        """Return how anomalous each row of a block is, of shape (b,)."""
        return row_sums(self._map(X))

    @abstractmethod
    def _map(self, X):
        """Return how anomalous each element of a block is, of shape (b, d)."""

    def _inspect(self, *block):
        """Return the anomaly (b,) and the map of a block, from one pass."""
        maps = self._map(*block)
        if type(self)._anomaly is BaseDetector._anomaly:
            return row_sums(maps), maps
        return self._anomaly(*block), maps

    def _validate(self, X, *, reset):
        """Return `X` as a checked array or tensor; `reset` when fitting."""
        missing = self._reads_missing
        return check_table(self, X, reset=reset, allow_nan=missing, keep_sparse=True)

    def _take(self, X, y, params):
        """Return what `fit` got, `X` checked already, as `_fit` takes it."""
        return X, y, params

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

    def _fit_blocks(self, blocks):
        """Learn as `_fit` does from `skad._dask.Blocks`, where statistics add up.

        May return the training rows' anomaly, as `_fit` may.
        """
        raise ValueError(
            f"{type(self).__name__} learns from all rows at once, and X is a Dask "
            "collection: pass rows that fit in memory, X.compute()."
        )

    # -------------------------------------------------------------------- the contract

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None) -> Self:
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
        return self._learn(X, y, self._fit, forget=self._forgets())

    def score_samples(self, X) -> Any:
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

    def decision_function(self, X) -> Any:
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

    def predict(self, X) -> Any:
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
        return labels_of(self.decision_function(X))

    def fit_predict(self, X, y=None) -> Any:
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

    def inspect(self, X) -> Inspection:
        """Return scores, decision, labels and maps from one pass over the samples.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        inspection : Inspection
            A named tuple `(scores, decision, labels, maps)` of what `score_samples`,
            `decision_function`, `predict` and `transform` return.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        return self._inspection(*self._in_blocks(self._inspect, X, dtype=X.dtype))

    def transform(self, X) -> Any:
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

    def _forgets(self):
        """Tell whether another `fit` begins anew."""
        return not getattr(self, "warm_start", False)

    def _inspection(self, anomaly, maps):
        """Return what `inspect` returns."""
        decision = -anomaly - self.offset_
        return Inspection(-anomaly, decision, labels_of(decision), maps)

    def _learn(self, X, y, learn, *, forget, **params):
        """Call `learn` and set the threshold; an error leaves everything as it was.

        `params` are what `fit` takes besides: `learn`, `_fit_offset` and
        `_honest_anomaly` get them as `_take` returns them.
        """
        need_chosen(self)
        before = self._fitted_state()
        if forget:
            self._replace_fitted_state({})
        try:
            if is_dask(X):
                X, learn = Blocks(X, self), self._learn_blocks
            else:
                # the first call of partial_fit knows nothing either
                X = self._validate(X, reset=not hasattr(self, "n_features_in_"))
                X = rows_to_learn(self, X)
            warn_of_strays(self, X)
            warn_of_origin(self, X)
            X, y, params = self._take(X, y, params)
            self._check_parameters(X)
            self._begin_callbacks(X, y)
            placed = X
            if "device" in self._parameter_constraints:
                self.device_ = resolve_device(self.device, X, self._fit_work(X))
                placed = on_device(X, self.device_)
            anomaly = learn(placed, y, **params)
            self.offset_ = self._fit_offset(X, y, anomaly, **params)
            check_threshold(self)
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
        return self._fit_blocks(blocks)

    def _fitted_state(self):
        return {name: value for name, value in vars(self).items() if name[-1] == "_"}

    def _replace_fitted_state(self, state):
        for name in self._fitted_state():
            delattr(self, name)
        vars(self).update(state)

    def _in_blocks(self, function, X, dtype=None, progress=None, parts=None):
        """Apply `function` to blocks of rows; the results live where `X` lives.

        `function` returns one array or several; `dtype` is that of the last, the others
        are as exact as can be. `parts` are a method's own blocks, slices or indices.
        """
        device = self._scoring_device(X)
        if issparse(X):
            if dtype is not None and dtype == X.dtype:  # not of indices
                check_dense_size(self, X, "has a dense map of them")
            if not self._reads_sparse:
                function = partial(_of_dense, function)
        if parts is None:
            parts = list(slices(X.shape[0], self._block_rows(device)))
        if progress is not None:
            parts = self._steps(parts, progress, len(parts))
        results = over_blocks(function, X, parts, device, dtype)
        xp = namespace(X)
        for whole in results if isinstance(results, tuple) else [results]:
            if not xp.all(xp.isfinite(whole)):
                raise ValueError(
                    f"X has values too large for {type(self).__name__}: scores "
                    f"overflow {X.dtype}. Scale the features (StandardScaler) or pass "
                    "float64."
                )
        return results

    def _scoring_device(self, X):
        """Return the device that scores `X`: its own where the method has no say."""
        if "device" not in self._parameter_constraints:
            return device_of(X)
        return X.device if is_torch(X) and self.device == "auto" else self.device_

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
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = self._reads_missing
        return tags


def _of_dense(function, block):
    return function(block.toarray())
