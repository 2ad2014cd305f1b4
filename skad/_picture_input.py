"""Input checks of pictures: arrays, tensors, files, and rows that are flat ones."""

import os

import numpy as np

from skad._array import blocks, is_torch, namespace, on_device, to_numpy
from skad._picture_values import check_axes, check_values
from skad._sklearn import validate_data
from skad._sparse import dense_rows
from skad._validation import check_magnitude, check_table, refuse_unreadable


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
            check_magnitude(X[rows])
    if is_torch(X):
        X = X.detach()
        if kind in ("uint8", "uint16", "bool"):
            return X.float() / {"uint8": 255, "uint16": 65535, "bool": 1}[kind]
        return X.float() if kind == "float16" else X
    return X.astype(np.float32) if kind == "float16" else X
