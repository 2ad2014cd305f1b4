"""What the shaping of activations shares: the largest ones, and how much they hold."""

from skad._array import namespace
from skad.neighbors._smallest import smallest


def largest(features, pruned):
    """Return which of each row's features (b, f) are among its largest, (b, f).

    A share `pruned` is not, but at least one is.
    """
    xp = namespace(features)
    f = features.shape[1]
    kept = max(1, f - round(f * pruned))
    if kept == f:
        return xp.ones_like(features, dtype=xp.bool)
    mask = xp.zeros_like(features, dtype=xp.bool)
    rows = xp.arange(features.shape[0], device=getattr(features, "device", None))
    chosen = smallest(-features, kept)
    # a plain True would be copied to a GPU at every call
    mask[rows[:, None], chosen] = xp.ones_like(chosen, dtype=xp.bool)
    return mask


def spread(features, mask):
    """Return the sum of each row's features over that of its masked ones, (b, 1).

    Below zero counts as zero, as behind a rectified linear unit; 1 where nothing is
    above.
    """
    xp = namespace(features)
    positive = xp.where(features > 0, features, 0.0)
    whole = xp.sum(positive, axis=1, keepdims=True)
    held = xp.sum(xp.where(mask, positive, 0.0), axis=1, keepdims=True)
    return xp.where(held > 0, whole / xp.where(held > 0, held, 1.0), 1.0)
