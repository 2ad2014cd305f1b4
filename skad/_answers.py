"""What a detector answers about samples."""

from typing import Any, NamedTuple

from skad._array import namespace


class Inspection(NamedTuple):
    """What `inspect` returns: all answers about some samples, from one pass.

    Parameters
    ----------
    scores : ndarray or tensor of shape (n_samples,), float64
        As `score_samples` returns them.
    decision : ndarray or tensor of shape (n_samples,), float64
        As `decision_function` returns it.
    labels : ndarray or tensor of shape (n_samples,), int64
        As `predict` returns them.
    maps : ndarray or tensor
        As `transform` returns them, never as a frame.
    """

    scores: Any
    decision: Any
    labels: Any
    maps: Any


def labels_of(decision):
    """Return labels (n,) of a decision function: 1 from zero on, -1 below."""
    xp = namespace(decision)
    return xp.astype(decision >= 0, xp.int64) * 2 - 1


def check_threshold(detector):
    """Raise where the threshold is NaN, as scores of training samples are."""
    if detector.offset_ != detector.offset_:
        raise ValueError(
            f"The threshold of this {type(detector).__name__} is NaN: scores of its "
            "training samples are not finite. Scale the features, and lower lr where a "
            "network is trained."
        )
