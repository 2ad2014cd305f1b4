"""Dask collections: scores block by block, and fits from what adds up over blocks.

A block is a partition of rows, on whatever machine it lies. Scoring is lazy and costs
no more memory than a block. A detector learns from blocks where it writes
`_fit_blocks(blocks)`, which asks for statistics of single blocks and says how two of
them are put together; only those travel.
"""

import copy

import numpy as np
from sklearn import config_context

from skad._array import on_host
from skad._sklearn import _safe_indexing
from skad._sparse import dense_rows


def is_dask(X):
    """Tell whether `X` is a Dask array or frame, without importing Dask."""
    return type(X).__module__.partition(".")[0] == "dask"


def by_block(detector, method, X):
    """Return a lazy Dask array: `detector.method` of every block of `X`."""
    import dask
    import dask.array

    if detector._looks_around:
        raise ValueError(
            f"{type(detector).__name__} looks at the rows around a row, which may be "
            "in other blocks of the Dask collection X: pass rows in memory, "
            "X.compute()."
        )
    tail, dtype = (), np.dtype(np.float64)
    if method == "predict":
        dtype = np.dtype(np.int64)
    elif method == "transform":
        tail = tuple(X.shape[1:3])  # the map of a picture has no channels
        kinds = {X.dtype} if hasattr(X, "dtype") else set(X.dtypes)
        dtype = np.dtype(np.float32) if kinds == {np.dtype(np.float32)} else dtype
    model, call = dask.delayed(detector), dask.delayed(_answer)
    blocks = [
        dask.array.from_delayed(
            call(model, method, part, tail, dtype), (length, *tail), dtype
        )
        for part, length in zip(*_parts(X), strict=True)
    ]
    return dask.array.concatenate(blocks, allow_unknown_chunksizes=True)


def _answer(model, method, part, tail, dtype):
    if not len(part):  # frames have such partitions
        return np.empty((0, *tail), dtype=dtype)
    with config_context(transform_output="default"):
        return np.asarray(getattr(model, method)(part), dtype=dtype)


def _parts(X):
    """Return the blocks of rows, delayed, and their lengths, NaN where unknown."""
    if hasattr(X, "chunks"):
        X = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
        return list(X.to_delayed().ravel()), X.chunks[0]
    parts = list(X.to_delayed())
    return parts, [np.nan] * len(parts)


class Blocks:
    """The training rows of a Dask collection, as `_fit_blocks` gets them.

    What `detector` knows of the data before it learns (names, shapes) is taken from the
    first rows. Blocks are checked, as in a fit on one machine, where they lie.

    Parameters
    ----------
    X : dask array or frame of shape (n_samples, ...)
        The training data.
    detector : BaseDetector
        What is fitted.

    Attributes
    ----------
    shape : tuple of int
        The shape of the data.
    head : array
        The first rows, at most two.
    starts : list of int
        The number of each block's first row.
    """

    def __init__(self, X, detector):
        import dask

        parts, lengths = _parts(X)
        if np.isnan(lengths).any():
            lengths = dask.compute(*map(dask.delayed(len), parts))
        self._parts = [part for part, n in zip(parts, lengths, strict=True) if n]
        self._lengths = [int(n) for n in lengths if n]
        self._detector = detector
        head = (self._parts or parts)[0][:2].compute()
        if len(head) == 1 < sum(self._lengths):
            head = _safe_indexing(head, [0, 0])
        self.head = dense_rows(detector, detector._validate(head, reset=True))
        self.shape = (sum(self._lengths), *self.head.shape[1:])
        self.starts = [0, *np.cumsum(self._lengths)[:-1].tolist()]

    def reduce(self, function, merge, *each):
        """Return `function(detector, rows)` of all blocks, put together by `merge`.

        Neighbours are put together first, then the pairs, and so on. `each` are further
        arguments of `function`, lists with one item for a block.
        """
        import dask

        merge = dask.delayed(merge)
        left = self._delayed(function, each)
        while len(left) > 1:
            pairs = [merge(*left[i : i + 2]) for i in range(0, len(left) - 1, 2)]
            left = pairs + left[2 * len(pairs) :]
        return left[0].compute()

    def map(self, function, *each):
        """Return the list of `function(detector, rows)` of all blocks."""
        import dask

        return list(dask.compute(*self._delayed(function, each)))

    def fold(self, function, state):
        """Return the last `state = function(detector, rows, state)`, in order."""
        import dask

        model, call = self._model(), dask.delayed(_checked)
        for part in self._parts:
            state = call(model, function, part, state)
        return state.compute()

    def __len__(self):
        return len(self._parts)

    def to(self, device):
        """Return itself: rows come to the device where they lie."""
        return self

    def __getitem__(self, rows):
        """Return the rows of a slice or of indices, on this machine."""
        wanted = np.arange(self.shape[0])[rows]
        order = np.argsort(wanted, kind="stable")
        wanted = wanted[order]
        ends = np.cumsum(self._lengths)
        own = np.split(wanted, np.searchsorted(wanted, ends[:-1]))
        places = [
            part - end + n
            for part, end, n in zip(own, ends, self._lengths, strict=True)
        ]
        parts = self.map(lambda _, rows, some: rows[some], places)
        return np.concatenate(parts)[np.argsort(order)]

    def scored(self, name="_anomaly"):
        """Return what a method makes of all rows, (n,), on this machine."""
        return np.concatenate(
            self.map(lambda model, rows: model._in_blocks(getattr(model, name), rows))
        )

    def _delayed(self, function, each):
        import dask

        model, call = self._model(), dask.delayed(_checked)
        return [
            call(model, function, part, *extra)
            for part, *extra in zip(self._parts, *each, strict=True)
        ]

    def _model(self):
        """Return the detector as it is now, without callbacks, which stay here."""
        import dask

        model = copy.copy(self._detector)
        for name in ("_skl_callbacks", "_callback_fit_ctx"):
            vars(model).pop(name, None)
        return dask.delayed(model)


def _checked(model, function, part, *extra):
    rows = dense_rows(model, model._validate(part, reset=False))
    if model._reads_missing and np.isnan(rows).any():
        raise ValueError(
            "Input X contains NaN: missing values need rows in memory, X.compute()."
        )
    return on_host(function(model, rows, *extra))
