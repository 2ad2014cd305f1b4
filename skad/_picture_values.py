"""Whether arrays are pictures: the order of their axes, and what their values mean.

Accepted are whole numbers (uint8, uint16, bool), floats in 0..1, and floats that were
standardised on purpose, around 0. A detector takes for scores what it took in `fit`.
"""

import numpy as np

from skad._array import blocks, is_torch, namespace
from skad._pictures import PictureFiles

# Floats in 0..1 may be a little outside: resampled, or brighter than white.
_BRIGHTEST = 2.0
_DARKEST = -0.25
# New pictures for a detector of pictures in 0..1; below are standardised ones.
_DARKEST_NEW = -1.0
# Standardised floats, which are around 0, are hardly beyond.
_STANDARDISED = 30.0

# More channels than these are those of no picture that somebody took.
_CHANNELS = (1, 3, 4)


def check_axes(shape, given, is_tensor):
    """Raise where an array has channels first, or is a single picture.

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    given : tuple of int or None
        The detector's `image_shape`, which settles what the axes are.
    is_tensor : bool
        Whether it is a tensor, for the line to write.
    """
    if given is not None and tuple(given) == tuple((*shape[1:], 1)[:3]):
        return
    fewest = max(_CHANNELS)
    if len(shape) == 4 and shape[1] in _CHANNELS and min(shape[2:]) > fewest:
        n, height, width, channels = shape
        swap = "permute" if is_tensor else "transpose"
        raise ValueError(
            f"X has shape {tuple(shape)}, which are {n} pictures of {height} x "
            f"{width} pixels with {channels} channels: the channels come last. If they "
            f"are first in X, write X.{swap}(0, 2, 3, 1); if not, pass image_shape="
            f"{tuple(shape[1:])}."
        )
    if len(shape) == 3 and shape[2] in (3, 4) and shape[1] >= 2 * fewest:
        raise ValueError(
            f"X has shape {tuple(shape)}, which are {shape[0]} grey pictures of "
            f"{shape[1]} x {shape[2]} pixels. If X is one picture in colour, write "
            f"X[None]; if not, pass image_shape={tuple(shape[1:])}."
        )


def check_values(estimator, X, *, reset):
    """Raise unless the values of pictures are what they are taken for.

    Sets `_around_zero_`, whether the training pictures were standardised.

    Parameters
    ----------
    estimator : object
        The detector or transformer.
    X : array, tensor or PictureFiles of shape (n, ...)
        The pictures before they are converted: whole numbers stand for 0..1, and floats
        of files are in 0..1. What only looks like an array says nothing.
    reset : bool
        Whether they are those of `fit`.
    """
    files = isinstance(X, PictureFiles)
    if not (files or isinstance(X, np.ndarray) or is_torch(X)):
        if reset:
            estimator._around_zero_ = None
        return
    floats = "float" in str(X.dtype) and not files
    smallest, largest = _range(X) if floats and 0 not in X.shape else (0.0, 0.0)
    if reset:
        estimator._around_zero_ = smallest < _DARKEST
        fits = largest <= (_STANDARDISED if estimator._around_zero_ else _BRIGHTEST)
        if fits and smallest >= -_STANDARDISED:
            return
        raise ValueError(_unlike_pictures(X, smallest, largest))
    # None: nobody knows, as of detectors in old files
    around_zero = getattr(estimator, "_around_zero_", None)
    if around_zero is None:
        around_zero = smallest < _DARKEST
    name = type(estimator).__name__
    if around_zero and not floats:
        raise ValueError(
            "X has files or whole numbers, which are brought to 0..1, and this "
            f"{name} was fitted to floats around 0: bring X to floats the same way."
        )
    if around_zero:
        if max(largest, -smallest) > _STANDARDISED:
            raise ValueError(_unlike_pictures(X, smallest, largest))
    elif largest > _BRIGHTEST:
        raise ValueError(_unlike_pictures(X, smallest, largest))
    elif smallest < _DARKEST_NEW:
        raise ValueError(
            f"X has floats from {smallest:.3g} to {largest:.3g}, and this {name} was "
            "fitted to pictures in 0..1: pass X in 0..1 or as uint8."
        )


def are_around_zero(X):
    """Tell whether pictures were standardised, and are none in 0..1 any more.

    Parameters
    ----------
    X : array, tensor or PictureFiles of shape (n, ...)
        The pictures before they are converted, as for `check_values`.
    """
    if isinstance(X, PictureFiles) or "float" not in str(X.dtype) or 0 in X.shape:
        return False
    return _range(X)[0] < _DARKEST


def _range(X):
    """Return the smallest and the largest value, without a copy of all."""
    found = []
    for rows in blocks(X.shape[0], int(np.prod(X.shape[1:]))):
        block = X[rows]  # of tiles an array or a tensor, as the pictures are
        xp = namespace(block)
        found.append((float(xp.min(block)), float(xp.max(block))))
    smallest, largest = zip(*found, strict=True)
    return min(smallest), max(largest)


def _unlike_pictures(X, smallest, largest):
    """Return what is wrong with floats, and the line to write."""
    white = next((white for white in (255, 65535) if largest <= white), "X.max()")
    line = f"X / {white}"
    if white == 255 and smallest >= 0:
        line += " or X.to(torch.uint8)" if is_torch(X) else " or X.astype(np.uint8)"
    elif smallest < 0:
        line = "(X - X.mean()) / X.std()"
    return (
        f"X has floats from {smallest:.4g} to {largest:.4g}, but pictures are uint8, "
        "floats in 0..1, or floats around 0 that were standardised (at most "
        f"{_STANDARDISED:g} in size): write {line}."
    )
