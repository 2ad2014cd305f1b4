"""Input checks: scikit-learn's for whatever it takes, the same rules for tensors."""

import os
import warnings

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.utils.validation import column_or_1d

from skad._array import blocks, is_torch, namespace, on_device, to_numpy
from skad._dask import is_dask
from skad._picture_values import check_axes, check_values
from skad._sklearn import _check_sample_weight, validate_data
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
        _check_magnitude(X)
        if reset:
            estimator.n_features_in_ = X.shape[1]
        return X
    refuse_unreadable(X)
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
    if issparse(X):
        if np.isnan(X.data).any():  # of a frame of sparse columns
            raise ValueError("Input X contains NaN.")
        if X.nnz:
            _check_magnitude(X.data)
        return csr_array(X) if keep_sparse else dense_rows(estimator, X)
    _check_magnitude(X)
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
    # a sum needs no memory, and is not finite where a value is not
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(X.sum()))


def check_images(estimator, X, *, reset, any_values=False):
    """Return rows (n, d) of tables or of flattened images; sets `image_shape_`.

    Images come as (n, h, w) or (n, h, w, c), as files, or as rows with the estimator's
    `image_shape`. Values of dtype uint8 are brought from 0..255 to 0..1; floats are in
    0..1, or around 0 where they were standardised (`check_values`), unless `any_values`
    may come.
    """
    from skad._pictures import PictureFiles

    refuse_unreadable(X)
    X = dense_rows(estimator, X)
    shape = estimator.image_shape
    shape = None if shape is None else (*shape, 1)[:3]
    given = shape
    if _are_paths(X):
        X = PictureFiles(list(X))
    if isinstance(X, PictureFiles):
        X = Pictures(X)
    values = None
    if isinstance(X, Pictures):
        values, X = X.source, X[:]
    if getattr(X, "ndim", 2) in (3, 4):
        check_axes(tuple(X.shape), shape, is_torch(X))
        given = (*X.shape[1:], 1)[:3]
        X = X.reshape(X.shape[0], -1) if X.shape[0] else X.reshape(0, np.prod(given))
    if str(getattr(X, "dtype", "")).endswith("uint8") and given is not None:
        values = X
        X = X.float() / 255 if is_torch(X) else np.asarray(X, np.float32) / 255
    X = check_table(estimator, X, reset=reset)
    known = shape if reset else estimator.image_shape_
    if known is not None and given is not None and tuple(given) != tuple(known):
        raise ValueError(f"X has images of shape {given}, expected {tuple(known)}.")
    _check_size(estimator.image_shape, X.shape[1])
    if given is not None and not any_values:
        check_values(estimator, X if values is None else values, reset=reset)
    if reset:
        estimator.image_shape_ = None if given is None else tuple(given)
    return X


def refuse_unreadable(X):
    """Raise for masked entries, lazy rows and tensors that are no plain arrays."""
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


class Pictures:
    """Pictures in host memory or in files, read as floats in 0..1 when asked for.

    Parameters
    ----------
    source : ndarray or PictureFiles of shape (n, h, w, c)
        The pictures: float, or whole numbers whose largest value stands for 1.
    device : str, default="cpu"
        "cpu" gives NumPy arrays, any other device tensors on it.
    """

    ndim = 4

    def __init__(self, source, device="cpu"):
        self.source, self.device = source, device
        self.shape = tuple(source.shape)
        whole = np.dtype(source.dtype).kind in "bui"
        self.dtype = np.dtype(np.float32) if whole else np.dtype(source.dtype)
        self.largest = np.iinfo(source.dtype).max if source.dtype.kind == "u" else 1

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        """Return the pictures of a slice or of indices, (b, h, w, c)."""
        part = np.asarray(self.source[rows])
        if part.dtype != self.dtype:
            part = part.astype(self.dtype) / self.dtype.type(self.largest)
        return on_device(part, self.device)

    def to(self, device):
        """Return the same pictures, read to another device."""
        return Pictures(self.source, str(device))

    def joined(self, others):
        """Return these pictures and others (m, h, w, c) behind them.

        Files stay files beside files; else both are read.
        """
        both = [self.source, getattr(others, "source", others)]
        if len({(type(each), each.dtype) for each in both}) > 1:
            both = [to_numpy(each[:]) for each in (self, others)]
        join = getattr(both[0], "joined", None)
        return Pictures(join(both[1]) if join else np.concatenate(both), self.device)


def check_pictures(estimator, X, *, reset, any_values=False):
    """Return pictures of shape (n, h, w, c), floats in 0..1; sets `image_shape_`.

    Takes arrays and tensors (n, h, w) or (n, h, w, c), `PictureFiles`, paths, and rows
    (n, d) with the estimator's `image_shape`; rows without it are pictures (1, d, 1).
    Floats are in 0..1, or around 0 where they were standardised (`check_values`),
    unless `any_values` may come, as to networks that scale them on their own.
    The result is a tensor for a tensor, else `Pictures`, which reads a block when it
    is sliced. One picture is enough to fit. `_are_rows_` tells whether the fit was
    given rows without a shape, whose maps are rows as well.
    """
    from skad._pictures import PictureFiles

    refuse_unreadable(X)
    X = dense_rows(estimator, X)
    given = estimator.image_shape
    given = None if given is None else tuple((*given, 1)[:3])
    if _are_paths(X):
        mode = None
        if not reset:  # one grey file among colour ones is read as the training ones
            mode = "gray" if estimator.image_shape_[2] == 1 else "rgb"
        X = PictureFiles(list(X), mode=mode)
    elif isinstance(X, list | tuple) and np.ndim(X[0] if X else 0) in (2, 3):
        X = _stack_pictures(X)
    lazy = isinstance(X, PictureFiles | Pictures)
    if str(getattr(X, "dtype", "")).endswith("uint8") and given and X.ndim == 2:
        _check_size(given, X.shape[1])
        X = X.reshape(X.shape[0], *given)
    are_rows = not lazy and getattr(X, "ndim", 2) not in (3, 4)
    if are_rows:
        X = check_table(estimator, X, reset=reset, min_samples=1)
        shape = given or (1, X.shape[1], 1)
        _check_size(given, X.shape[1])
        X = X.reshape(X.shape[0], *shape)
        if given and not any_values:
            check_values(estimator, X, reset=reset)
    else:
        if not lazy:
            check_axes(tuple(int(size) for size in X.shape), given, is_torch(X))
        shape = tuple(int(size) for size in (*X.shape[1:], 1)[:3])
        if given not in (None, shape):
            raise ValueError(f"X has images of shape {shape}, image_shape is {given}.")
        if 0 in X.shape:
            raise ValueError(f"X has shape {tuple(X.shape)}: no picture or no pixel.")
        values = getattr(X, "source", X)
        if not lazy:
            values = X.reshape(X.shape[0], *shape)
            X = _check_picture_array(values)
        elements = np.broadcast_to(np.float32(0), (X.shape[0], int(np.prod(shape))))
        if not reset and elements.shape[1] != estimator.n_features_in_:
            raise ValueError(
                f"X has images of shape {shape}, expected {estimator.image_shape_}."
            )
        if not any_values:
            check_values(estimator, values, reset=reset)
        validate_data(estimator, elements, reset=reset, skip_check_array=True)
    if reset:
        estimator.image_shape_ = shape
        estimator._are_rows_ = are_rows and given is None
    elif shape != tuple(estimator.image_shape_):
        raise ValueError(
            f"X has images of shape {shape}, expected {estimator.image_shape_}."
        )
    return X if is_torch(X) or isinstance(X, Pictures) else Pictures(X)


def label_column(y, n_samples):
    """Return labels of any one kind as an array (n,), or raise an error about y."""
    try:
        labels = column_or_1d(to_numpy(y) if is_torch(y) else y, warn=True)
        if labels.dtype.kind == "O":
            np.unique(labels)  # which takes what can be compared
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"y is no column of labels of one kind: {reason}") from error
    if len(labels) != n_samples:
        raise ValueError(f"y has {len(labels)} labels for {n_samples} samples.")
    return labels


def check_labels(y, n_samples, *, others=False):
    """Return labels 1 normal, -1 known anomaly, 0 unlabelled, of shape (n,).

    Any other label counts as unlabelled, with a warning; so is it warned of labels that
    name no anomaly, unless something else may, `others`.
    """
    y = label_column(y, n_samples)
    labels = np.where(y == -1, -1, np.where(y == 1, 1, 0))
    if not np.all(labels == y):
        warnings.warn(
            "y has labels other than 1 (normal), -1 (anomaly) and 0 (unlabelled); they "
            "count as unlabelled.",
            stacklevel=6,
        )
    elif not others:
        warn_without_anomalies(labels)
    return labels


def check_sample_weight(sample_weight, n_samples):
    """Return how often each sample counts, (n,), float64 and at least 0, or raise."""
    if is_torch(sample_weight):
        sample_weight = to_numpy(sample_weight)
    rows = np.broadcast_to(0.0, (n_samples, 1))
    try:
        return _check_sample_weight(
            sample_weight, rows, dtype=np.float64, ensure_non_negative=True
        )
    except ValueError as error:
        weights = np.asarray(sample_weight)
        if weights.dtype.kind in "biuf" and np.all(weights <= 0):
            raise ValueError(
                "Invalid input - all samples have zero or negative weights."
            ) from error
        raise


def warn_without_anomalies(y):
    """Warn where labels (n,) name no anomaly, as those of other conventions do."""
    if not np.any(y == -1):
        warnings.warn(
            "y has no label -1, so it names no anomaly: 1 is normal, -1 an anomaly, 0 "
            "unlabelled. If 1 means an anomaly and 0 normal, as in PyOD, pass "
            "np.where(y == 1, -1, 1).",
            stacklevel=7,
        )


def _are_paths(X):
    """Tell whether `X` is a sequence of paths."""
    one = isinstance(X, str | os.PathLike) or is_torch(X)
    if one or getattr(X, "ndim", 1) != 1 or not hasattr(X, "__len__"):
        return False
    return len(X) > 0 and all(isinstance(path, str | os.PathLike) for path in X)


def _check_size(image_shape, n_features):
    """Raise where rows of `n_features` elements are no pictures of a given shape."""
    if image_shape is not None and np.prod(image_shape) != n_features:
        raise ValueError(
            f"image_shape={image_shape} has {np.prod(image_shape)} elements, X has "
            f"{n_features} features."
        )


def _stack_pictures(X):
    for i, picture in enumerate(X):
        if np.shape(picture) != np.shape(X[0]):
            raise ValueError(
                f"X[{i}] has shape {np.shape(picture)}, X[0] has {np.shape(X[0])}: "
                "pictures must have one size (PictureFiles resizes files with size=)."
            )
    if is_torch(X[0]):
        return namespace(X[0]).stack(list(X))
    return np.stack([np.asarray(picture) for picture in X])


def _check_picture_array(X):
    """Return an array as it is, a tensor as floats in 0..1, or raise."""
    kind = str(X.dtype).removeprefix("torch.")
    if kind not in ("bool", "uint8", "uint16", "float16", "float32", "float64"):
        raise ValueError(
            f"X has pictures of dtype {kind}; accepted are uint8 in 0..255, uint16 in "
            "0..65535, bool, and floats in 0..1."
        )
    if kind.startswith("float") and 0 not in X.shape:
        for rows in blocks(X.shape[0], int(np.prod(X.shape[1:]))):
            xp = namespace(X)
            if not bool(xp.all(xp.isfinite(X[rows]))):
                nan = bool(xp.any(xp.isnan(X[rows])))
                raise ValueError(
                    f"Input X contains {'NaN' if nan else 'infinity'}: picture between "
                    f"{rows.start} and {rows.stop - 1}."
                )
            _check_magnitude(X[rows])
    if is_torch(X):
        X = X.detach()
        if kind in ("uint8", "uint16", "bool"):
            return X.float() / {"uint8": 255, "uint16": 65535, "bool": 1}[kind]
        return X.float() if kind == "float16" else X
    return X.astype(np.float32) if kind == "float16" else X


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


def _check_magnitude(X):
    """Refuse values whose sums of squares leave the range of the dtype."""
    xp = namespace(X)
    limit = float(xp.finfo(X.dtype).max) ** 0.4
    largest = max(float(xp.max(X)), -float(xp.min(X)))
    if largest != largest:  # values are missing: a copy, which no others need
        X = xp.where(xp.isnan(X), 0.0, X)
        largest = max(float(xp.max(X)), -float(xp.min(X)))
    if largest > limit:
        raise ValueError(
            f"Input X contains {largest:.3g}, too large for sums of squares in "
            f"{X.dtype} (at most {limit:.1e}). Scale the features first."
        )
