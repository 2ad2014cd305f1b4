"""The smallest values of each row of a matrix, or of a product that is never whole."""

import numpy as np

from skad._array import (
    block_rows,
    device_of,
    is_torch,
    like,
    namespace,
    slices,
    to_numpy,
)

# Queries of one coarse block at least: fewer make slow products. On the host not many
# more: to allocate a large block costs as much as the products in it.
_BLOCK_QUERIES = 256
_BLOCK_ELEMENTS = 2**18
# Training rows of one coarse block; on a GPU wide blocks leave less to select from.
_BANK_ROWS = 2**15
_GPU_BANK_ROWS = 2**18


def smallest(values, k):
    """Return the indices of the `k` smallest values of each row, in no order."""
    if is_torch(values):
        return values.topk(k, dim=1, largest=False, sorted=False).indices
    if k == values.shape[1]:
        return np.tile(np.arange(k), (len(values), 1))  # to be written to, as below
    return np.argpartition(values, k - 1, axis=1)[:, :k]


def _partition(values, k):
    """Return what `smallest` does; tensors on the host take half the time in NumPy."""
    if str(device_of(values)) != "cpu":
        return smallest(values, k)
    return like(smallest(to_numpy(values), k), values, dtype="keep")


def picked(values, columns):
    """Return the values (b, c) in some columns (b, c) of each row."""
    xp = namespace(values)
    if is_torch(values) or not values.flags.c_contiguous:
        return xp.take_along_axis(values, columns, axis=1)
    # a third of the time: one index an element instead of two
    first = np.arange(values.shape[0])[:, None] * values.shape[1]
    return values.reshape(-1).take(columns + first)


def coarse_smallest(queries, matrix, k, hidden=None):
    """Return where products have their `k` smallest values, and the largest of these.

    Parameters
    ----------
    queries : array of shape (b, d)
        Queries.
    matrix : array of shape (d, n)
        Training rows.
    k : int
        Number of values, at most n.
    hidden : array of shape (2, b), default=None
        From which and before which training row a query does not look; `k` others are
        left.

    Returns
    -------
    indices : array of shape (b, k)
    bound : array of shape (b,), float64
        No value that was left out is below it.
    """
    xp = namespace(queries)
    device = device_of(queries)
    n = matrix.shape[1]
    if is_torch(queries):
        queries = queries.detach()  # indices have no gradient
    width = min(n, _BANK_ROWS if str(device) == "cpu" else _GPU_BANK_ROWS)
    step = block_rows(width, device)
    if str(device) == "cpu":
        step = min(step, _BLOCK_ELEMENTS // width)
    parts, step = [], max(_BLOCK_QUERIES, step)
    size = min(step, len(queries)) * width
    room = xp.empty(size, dtype=queries.dtype, device=device)
    for rows in slices(queries.shape[0], step):
        best = None
        for start in range(0, n, width):
            shape = len(queries[rows]), min(width, n - start)
            values = room[: shape[0] * shape[1]].reshape(shape)  # (b, c), contiguous
            xp.matmul(queries[rows], matrix[:, start : start + width], out=values)
            if hidden is not None:
                _hide(values, hidden[:, rows] - start)
            values, columns = _candidates(values, min(k, values.shape[1]))
            columns = columns + start if start else columns
            if best is not None:
                values = xp.concat([best[0], values], axis=1)
                columns = xp.concat([best[1], columns], axis=1)
            order = _partition(values, min(k, values.shape[1]))
            best = picked(values, order), picked(columns, order)
        parts.append((best[1], xp.astype(xp.max(best[0], axis=1), xp.float64)))
    return tuple(xp.concat(part) for part in zip(*parts, strict=True))


def _hide(values, hidden):
    """Put the columns (2, b) from the first and before the second out of reach."""
    xp = namespace(values)
    first, stop = xp.clip(hidden, 0, values.shape[1])
    longest = int((stop - first).max())
    columns = first[:, None] + xp.arange(longest, device=device_of(values))  # (b, m)
    inside = columns < stop[:, None]
    rows = xp.arange(values.shape[0], device=device_of(values))
    rows = xp.broadcast_to(rows[:, None], columns.shape)
    values[rows[inside], columns[inside]] = np.inf


def _candidates(values, k):
    """Return values and their columns (b, c), the `k` smallest of each row among them.

    The `k` smallest values lie in the `k` groups with the smallest minima.
    """
    xp = namespace(values)
    b, width = values.shape
    size = round((width / k) ** 0.5)  # the fewest minima and members together
    if size <= 2:
        columns = _partition(values, k)
        return picked(values, columns), columns
    n_groups = width // size
    grouped = values[:, : n_groups * size].reshape(b, size, n_groups)
    minima = xp.min(grouped, axis=1)
    found = None
    if not is_torch(values):
        found = _up_to(values, np.partition(minima, k - 1, axis=1)[:, k - 1], k)
    if found is not None:
        return found
    groups = _partition(minima, k)  # (b, k)
    members = xp.arange(size, device=device_of(values)) * n_groups
    columns = (groups[:, :, None] + members).reshape(b, -1)
    if n_groups * size < width:
        rest = xp.arange(n_groups * size, width, device=device_of(values))
        rest = xp.broadcast_to(rest, (b, rest.shape[0]))
        columns = xp.concat([columns, rest], axis=1)
    return picked(values, columns), columns


def _up_to(values, bound, k):
    """Return the values (b, c) up to a bound (b,) for each row, and their columns.

    Rows are filled up with infinity. None where some row has less than `k` of them, or
    far more, as of equal values.
    """
    b, width = values.shape
    flat = np.flatnonzero(values <= bound[:, None])
    rows = flat // width
    counts = np.bincount(rows, minlength=b)
    most = int(counts.max())
    if counts.min() < k or most > 4 * k + 32:
        return None
    # one after the other within their row
    first = np.arange(b) * most - (counts.cumsum() - counts)
    places = np.arange(len(flat)) + first[rows]
    near = np.full(b * most, np.inf, dtype=values.dtype)
    columns = np.zeros(b * most, dtype=np.int64)
    near[places] = values.reshape(-1).take(flat)
    columns[places] = flat - rows * width
    return near.reshape(b, most), columns.reshape(b, most)
