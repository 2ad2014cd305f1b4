"""Input checks of tables: scikit-learn's, and the same rules for tensors."""

import io
import os
from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array, get_index_dtype, issparse

from skad._array import is_torch, namespace
from skad._dask import is_dask
from skad._frames import refuse_times, words_of_columns
from skad._sklearn import validate_data
from skad._sparse import dense_rows


def check_table(
    estimator, X, *, reset, min_samples=None, allow_nan=False, keep_sparse=False
):
    """Return `X` of shape (n, d) as a float array or tensor, or raise.

    float32 and float64 stay as they are, everything else becomes float64. Values so
    large that their squares would overflow are refused, and so is NaN unless
    `allow_nan`. Sparse rows become a CSR array with `keep_sparse`, and are without
    missing values, else dense.
    """
    if min_samples is None:
        # the first piece of a stream may be one row
        goes_on = getattr(estimator, "_goes_on", False)
        least = getattr(estimator, "_least_rows", 2)
        min_samples = least if reset and not goes_on else 1
    if _is_plain(estimator, X, reset) and X.shape[0] >= min_samples:
        if reset:
            estimator.n_features_in_ = X.shape[1]
        return X
    refuse_unreadable(X)
    refuse_times(X)
    if getattr(X, "ndim", 2) in (3, 4):
        name = type(estimator).__name__
        raise ValueError(
            f"Found array with dim {X.ndim}, while dim <= 2 is required by {name}: "
            "samples are rows. Pictures, and features of their patches, are for the "
            "detectors of skad.image, of which PatchDetector carries others to them."
        )
    _refuse_several(X)
    if issparse(X):
        allow_nan = False
    if is_torch(X):
        X = _check_tensor(X, min_samples, allow_nan)
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    else:
        try:
            X = validate_data(
                estimator,
                X,
                reset=reset,
                accept_sparse="csr",
                dtype=(np.float64, np.float32),
                ensure_min_samples=min_samples,
                ensure_all_finite="allow-nan" if allow_nan else True,
            )
        except OverflowError as error:  # whole numbers of any length
            raise ValueError("X has numbers that are too large for float64.") from error
        except (TypeError, ValueError) as error:
            if words := words_of_columns(X):
                raise ValueError(words) from error
            raise
    if issparse(X):
        if np.isnan(X.data).any():  # of a frame of sparse columns
            raise ValueError("Input X contains NaN.")
        if X.nnz:
            check_magnitude(X.data)
        if not keep_sparse:
            return dense_rows(estimator, X)
        return _narrow(csr_array(X))
    check_magnitude(X)
    return X


def _narrow(X):
    """Return a CSR array with indices of 32 bits, all that trees take, if they fit."""
    index = get_index_dtype((X.indices, X.indptr), max(X.shape), check_contents=True)
    X.indices, X.indptr = (
        part.astype(index, copy=False) for part in (X.indices, X.indptr)
    )
    return X


def _is_plain(estimator, X, reset):
    """Tell whether `X` is a plain array that no check has anything to say of.

    The checks would take longer than most scores of one row, and than some fits.
    """
    if type(X) is not np.ndarray or X.dtype not in (np.float64, np.float32):
        return False
    if X.ndim != 2 or 0 in X.shape or hasattr(estimator, "feature_names_in_"):
        return False
    if not reset and X.shape[1] != getattr(estimator, "n_features_in_", None):
        return False
    return _are_small(X)


def _are_small(X):
    """Tell whether squares of values sum to so little that none is missing or large."""
    if X.flags.f_contiguous:
        X = X.T
    # without memory: one product of all values, or one by one where they lie apart
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.vdot(X, X) if X.flags.c_contiguous else np.einsum("ij,ij->", X, X)
    return bool(total <= _largest(X) ** 2)


def refuse_unreadable(X):
    """Raise for masked entries, lazy rows and what is no plain array or tensor."""
    _refuse_what_is_no_array(X)
    if is_dask(X):
        raise ValueError(
            "X is a Dask collection, and here rows are needed in memory: pass "
            "X.compute()."
        )
    if isinstance(X, np.ma.MaskedArray):
        if np.ma.is_masked(X):
            raise ValueError(
                "X has masked entries, whose hidden values would count: fill them "
                "(X.filled) or leave their rows out."
            )
    elif is_torch(X):
        kinds = {
            "nested": X.is_nested,
            "sparse": str(X.layout) != "torch.strided",
            "quantized": X.is_quantized,
            "meta (without values)": X.is_meta,
        }
        if any(kinds.values()):
            kind = next(kind for kind, found in kinds.items() if found)
            raise TypeError(
                f"X is a {kind} tensor, but dense tensors with values are required."
            )


def _refuse_what_is_no_array(X):
    """Raise for a path, one picture of Pillow, and what is read item by item."""
    kind, module = type(X).__name__, type(X).__module__
    if isinstance(X, str | bytes | os.PathLike):
        raise ValueError(
            f"X is the one path {os.fsdecode(X)!r}, and samples are needed. Of "
            "pictures pass a list of paths, such as [path], or what load_folder(path) "
            "of skad.image finds; of tables what pandas.read_csv(path) returns."
        )
    if module.startswith("PIL."):
        raise ValueError(f"X is one picture, a {kind} of Pillow: pass [X].")
    if module.startswith("torch.utils.data"):
        raise ValueError(
            f"X is a {kind} of torch, and an array or a tensor of all samples is "
            "needed: stack what it gives, or pass the paths of pictures."
        )
    if isinstance(X, io.IOBase):
        raise ValueError(f"X is a file, a {kind}, and samples are needed: read it.")
    if kind == "LazyFrame":
        raise ValueError("X is a LazyFrame, and rows are needed: pass X.collect().")
    if isinstance(X, np.ndarray) and X.dtype.names:
        raise ValueError(
            f"X is an array of records with the fields {', '.join(X.dtype.names)}, and "
            "numbers in two dimensions are needed: pass pandas.DataFrame(X)."
        )
    if isinstance(X, list | tuple) and len(X) and isinstance(X[0], dict):
        raise ValueError(
            f"X is a list of {len(X)} dicts, and rows of numbers are needed: pass "
            "pandas.DataFrame(X)."
        )
    if isinstance(X, Iterator):
        raise ValueError(f"X is a {kind}, which can be read but once: pass list(X).")


def _refuse_several(X):
    """Raise for a list of tables or series, such as other libraries take."""
    if not isinstance(X, list | tuple) or not len(X):
        return
    if all(getattr(part, "ndim", 0) == 2 for part in X):
        raise ValueError(
            f"X is a list of {len(X)} tables, the first of shape {tuple(X[0].shape)}, "
            "and one is needed: X=np.concatenate(X), and for a detector on series "
            "groups=np.repeat(np.arange(len(X)), [len(x) for x in X]) of the list X."
        )


def _check_tensor(X, min_samples, allow_nan=False):
    import torch

    if X.ndim != 2:
        raise ValueError(f"Expected 2D array, got {X.ndim}D array instead.")
    if X.is_complex():
        raise ValueError("Complex data not supported.")
    if X.shape[0] < min_samples:
        raise ValueError(
            f"Found array with {X.shape[0]} sample(s) (shape={tuple(X.shape)}) while a "
            f"minimum of {min_samples} is required."
        )
    if X.shape[1] < 1:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={tuple(X.shape)}) while a minimum "
            "of 1 is required."
        )
    X = X.detach()
    if X.dtype not in (torch.float32, torch.float64):
        X = X.to(torch.float32 if X.device.type == "mps" else torch.float64)
    # a sum needs no memory, and is not finite where a value is not
    if torch.isfinite(X.sum()):
        return X
    if not (torch.isinf(X).logical_not() if allow_nan else torch.isfinite(X)).all():
        kind = "NaN" if torch.isnan(X).any() and not allow_nan else "infinity"
        raise ValueError(f"Input X contains {kind}.")
    return X


def check_magnitude(X):
    """Refuse values whose sums of squares leave the range of the dtype."""
    xp = namespace(X)
    limit = _largest(X)
    largest = max(float(xp.max(X)), -float(xp.min(X)))
    if largest != largest:  # values are missing: a copy, which no others need
        X = xp.where(xp.isnan(X), 0.0, X)
        largest = max(float(xp.max(X)), -float(xp.min(X)))
    if largest > limit:
        raise ValueError(
            f"Input X contains {largest:.3g}, too large for sums of squares in "
            f"{X.dtype} (at most {limit:.1e}). Scale the features first."
        )


def _largest(X):
    """Return the largest value whose sums of squares stay in the range of the dtype."""
    return float(namespace(X).finfo(X.dtype).max) ** 0.4
