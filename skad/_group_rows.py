"""Rows of several series in one table: where each lies, and those that are short."""

import warnings
from itertools import pairwise

import numpy as np
from sklearn.utils.validation import column_or_1d

from skad._array import is_torch, like, namespace, to_numpy


def series_rows(groups, n, row="row"):
    """Return where each series lies in the rows: slices, or indices in order of time.

    Series come in the order in which their last rows do. Rows of one series that other
    series interrupt are joined in their order. `row` is what errors call a row.
    """
    if groups is None:
        return [slice(0, n)]
    groups = column_or_1d(to_numpy(groups) if is_torch(groups) else np.asarray(groups))
    if len(groups) != n:
        raise ValueError(f"groups has {len(groups)} labels for {n} {row}s.")
    try:
        labels, codes = np.unique(groups, return_inverse=True)
    except TypeError as error:
        raise ValueError(
            "groups has labels that cannot be compared with one another: pass labels "
            "of one kind, such as ints or strings."
        ) from error
    if any(label != label for label in labels):
        raise ValueError(f"groups contains NaN: every {row} needs a label.")
    cuts = np.flatnonzero(np.diff(codes)) + 1
    if len(cuts) + 1 == len(labels):
        bounds = [0, *cuts.tolist(), n]
        return [slice(*pair) for pair in pairwise(bounds)]
    order = np.argsort(codes, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    return sorted(rows, key=lambda own: own[-1])


def rows_by_label(groups, n, row="row"):
    """Return {label: rows} of each series, as `series_rows`; None is one series' label.

    Labels are those of Python where NumPy has its own.
    """
    rows = series_rows(groups, n, row)
    if groups is None:
        return {None: rows[0]}
    labels = np.ravel(to_numpy(groups) if is_torch(groups) else np.asarray(groups))
    first = (labels[own][0] for own in rows)
    names = [one.item() if isinstance(one, np.generic) else one for one in first]
    return dict(zip(names, rows, strict=True))


def long_enough(rows, least, reason, row, then):
    """Return the series that have at least `least` rows, and warn of others.

    Raise ValueError where there are only others. `reason` is the parameter that says
    so, `row` what a row is called and `then` what becomes of the others.
    """
    lengths = [n_rows(own) for own in rows]
    kept = [own for own, n in zip(rows, lengths, strict=True) if n >= least]
    if not kept:
        which = "X has" if len(rows) == 1 else "The longest series of X has"
        raise ValueError(f"{which} {max(lengths)} {row}s, fewer than {reason}.")
    if len(kept) < len(rows):
        short = [str(i) for i, n in enumerate(lengths) if n < least]
        some = ", ".join(short[:5]) + (", ..." if len(short) > 5 else "")
        warnings.warn(
            f"{len(short)} of {len(rows)} series (number {some}) have fewer {row}s "
            f"than {reason}: they are {then}scored with their first {row} repeated "
            "before them.",
            stacklevel=8,
        )
    return kept


def longer(function, least):
    """Return `function` of series (t, ...) for those with fewer than `least` rows, too.

    Their first row is repeated before them, and what comes of it is left out.
    """

    def function_of_more(x):
        missing = least - x.shape[0]
        if missing <= 0:
            return function(x)
        xp = namespace(x)
        before = xp.broadcast_to(x[:1], (missing, *x.shape[1:]))
        result = function(xp.concat([before, x]))
        if isinstance(result, tuple):
            return tuple(part[missing:] for part in result)
        return result[missing:]

    return function_of_more


def n_rows(rows):
    """Return how many rows a slice or an array of indices takes."""
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def take(X, rows):
    """Return some rows of `X`: a view for a slice, a copy for indices."""
    if isinstance(rows, slice):
        return X[rows]
    return X[like(rows, X, dtype="keep")]
