"""How near z-normalised windows are: distances, and similarities in tiles of windows.

Two windows of length l with unit vectors u and v (a window minus its mean, divided by
its norm) are at the distance sqrt(2 l (1 - u.v)). The products u.v are matrix products
of tiles of windows, so that memory is linear in the windows. The distance of two given
windows is computed from the difference of their unit vectors, which is exact where u.v
is almost 1.
"""

from typing import NamedTuple

import numpy as np

from skad._array import device_of, is_torch, namespace

# Windows along a side of a tile of products: 4 MB in single precision on the host, so
# that they are compared before they leave the cache; on a GPU only large tiles pay.
_TILE, _GPU_TILE = 1024, 8192

# Elements of unit vectors that are kept and not made again for each tile.
_KEPT = 2**22

# Half of what is added to the product of two constant windows: as if they were alike.
_CONSTANT = 0.5

# Added to products, at least -1, with a window that has missing values.
_MISSING = -8.0

# Products below this have missing values in them.
_LOWEST = -2.0


class UnitWindows(NamedTuple):
    """The windows of one channel, made unit vectors block by block.

    Parameters
    ----------
    values : array or tensor of shape (t,) or (w, l)
        The channel, or its windows; not finite where values are missing.
    size : int
        Length l of the windows.
    mean, inverse : arrays or tensors of shape (w,)
        Means of the windows, and inverse norms of what they leave; 0 for constant
        windows and for windows with missing values.
    mark : array or tensor of shape (w,)
        What is added to products with the window, on top of the other's: zero unless
        it is constant or has missing values.
    """

    values: object
    size: int
    mean: object
    inverse: object
    mark: object

    @property
    def n_windows(self):
        """Return the number of windows."""
        return self.mean.shape[0]

    @property
    def missing(self):
        """Return which windows have missing values, of shape (w,)."""
        return self.mark < 0

    def is_plain(self):
        """Tell whether no window is constant and none has missing values."""
        return not bool(namespace(self.mark).any(self.mark != 0))

    def unit(self, rows):
        """Return unit vectors (b, l) of a slice or of indices of windows."""
        block = _views(self.values, self.size)[rows] - self.mean[rows][:, None]
        block *= self.inverse[rows][:, None]
        if bool(namespace(block).any(self.mark[rows] < 0)):
            block[self.missing[rows]] = 0.0
        return block

    def factor(self, rows, marks, right=False):
        """Return unit vectors (b, l), or (b, l + 2) with columns that add the marks."""
        block = self.unit(rows)
        if not marks:
            return block
        xp = namespace(block)
        mark = self.mark[rows][:, None]
        one = xp.ones_like(mark)
        return xp.concat([block, one, mark] if right else [block, mark, one], axis=1)


def unit_windows(values, size):
    """Return the UnitWindows of one channel (t,), or of windows (w, l)."""
    xp = namespace(values)
    views = _views(values, size)
    mean, inverse, mark = (
        xp.empty(views.shape[0], dtype=values.dtype, device=device_of(values))
        for _ in range(3)
    )
    for start in range(0, views.shape[0], _TILE):
        rows = slice(start, start + _TILE)
        block = views[rows]
        missing = ~xp.all(xp.isfinite(block), axis=1)
        constant = xp.all(block == block[:, :1], axis=1)
        mean[rows] = xp.sum(block, axis=1) / size
        block = block - mean[rows][:, None]
        norm = xp.sqrt(xp.sum(block * block, axis=1))
        constant = ~missing & (constant | (norm == 0))
        flat = constant | missing
        inverse[rows] = xp.where(flat, 0.0, 1 / xp.where(flat, 1.0, norm))
        mark[rows] = xp.where(
            missing, _MISSING, _CONSTANT * xp.astype(constant, mark.dtype)
        )
    return UnitWindows(values, size, mean, inverse, mark)


def _views(values, size):
    if values.ndim == 2:
        return values
    if is_torch(values):
        return values.unfold(0, size, 1)
    return np.lib.stride_tricks.sliding_window_view(values, size)


def gaps(query, reference, index, rows=slice(None)):
    """Return what each step adds to squared distances, and the distances.

    Parameters
    ----------
    query, reference : UnitWindows
        The two series.
    index : array or tensor of shape (b,)
        A window of `reference` for each query, or -1 for none.
    rows : slice or array
        The b queries.

    Returns
    -------
    squares : array or tensor of shape (b, l)
        Parts of the squared distance.
    distance : array or tensor of shape (b,)
        0 between constant windows, the root of the length between a constant and
        another one, and infinite where there is no window or a value is missing.
    """
    xp = namespace(index)
    there = xp.where(index < 0, 0, index)
    # the unit vector of a constant window is zero: to another it is 1 away
    squares = query.size * (query.unit(rows) - reference.unit(there)) ** 2
    missing = query.missing[rows] | reference.missing[there] | (index < 0)
    return squares, xp.where(missing, xp.inf, xp.sqrt(xp.sum(squares, axis=1)))


class Correlations:
    """Products of unit vectors of one channel: higher is nearer.

    Parameters
    ----------
    query, reference : UnitWindows
        The two series.
    single : bool
        In single precision, with an error of at most `error`.
    """

    lowest = _LOWEST

    def __init__(self, query, reference, single=False):
        self.query, self.reference = query, reference
        self.marks = not (query.is_plain() and reference.is_plain())
        self.shape = query.n_windows, reference.n_windows
        self.like = query.mean
        self.single = single
        # so near is every sum of l rounded products of unit vectors, in any order
        self.error = (query.size + 8) * 2.0**-24 if single else 0.0
        self.side = tile_side(query.mean)
        self._out = self._right = None
        if single and reference.n_windows * query.size <= _KEPT:
            self._right = self._factor(slice(None))

    def rows(self, rows):
        """Return what a block of queries needs for products with many references."""
        return self._narrow(self.query.factor(rows, self.marks))

    def tile(self, left, columns):
        """Return products (b, c); the next call may overwrite them."""
        right = self._factor(columns) if self._right is None else self._right[columns]
        if is_torch(left):
            return left @ right.T
        b, c = left.shape[0], right.shape[0]
        if self._out is None or self._out.size < b * c:
            self._out = np.empty(b * c, dtype=left.dtype)
        return np.matmul(left, right.T, out=self._out[: b * c].reshape(b, c))

    def _factor(self, columns):
        return self._narrow(self.reference.factor(columns, self.marks, right=True))

    def _narrow(self, factor):
        xp = namespace(factor)
        return xp.astype(factor, xp.float32) if self.single else factor


class MeanDistances:
    """Negative mean distance over the channels: higher is nearer.

    Parameters
    ----------
    query, reference : list of UnitWindows
        The channels of the two series.
    n_largest : int
        The mean is over that many channels with the largest distances.
    """

    lowest = -np.inf

    def __init__(self, query, reference, n_largest):
        self.channels = [
            Correlations(*pair) for pair in zip(query, reference, strict=True)
        ]
        self.n_largest = n_largest
        self.scale = (2 * query[0].size) ** 0.5 / n_largest
        self.shape = self.channels[0].shape
        self.like = query[0].mean
        # all channels of a tile together are as large as one tile of one channel
        share = len(query) if n_largest < len(query) else 1
        self.side = max(32, int(tile_side(self.like) / share**0.5))

    def rows(self, rows):
        """Return what a block of queries needs for products with many references."""
        return [channel.rows(rows) for channel in self.channels]

    def tile(self, left, columns):
        """Return similarities (b, c)."""
        xp = namespace(self.like)
        if self.n_largest == len(self.channels):
            total = 0.0
            for channel, factor in zip(self.channels, left, strict=True):
                total = total + _distance(channel.tile(factor, columns))
        else:
            parts = [
                _distance(channel.tile(factor, columns))
                for channel, factor in zip(self.channels, left, strict=True)
            ]
            parts = xp.sort(xp.stack(parts), axis=0)  # (channels, b, c)
            total = xp.sum(parts[-self.n_largest :], axis=0)
        return -self.scale * total


def _distance(product):
    """Return the distance of unit vectors over the root of two, infinite if missing."""
    xp = namespace(product)
    gap = xp.sqrt(xp.clip(1 - product, 0.0, None))
    return xp.where(product < _LOWEST, xp.inf, gap)


def tile_side(array):
    """Return how many windows are along a side of a tile on the device of `array`."""
    return _TILE if str(device_of(array)) == "cpu" else _GPU_TILE
