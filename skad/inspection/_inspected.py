"""What any fitted detector answers about samples, and what its threshold is.

A detector of skad is asked once: no sample is looked at twice.
"""

import numpy as np

from skad._answers import Inspection, labels_of
from skad._array import to_numpy
from skad._limits import upper_limit
from skad._members import maps_of
from skad.base import BaseDetector


def inspected(detector, X, **params):
    """Return all answers about samples from one pass, as arrays on the host.

    Parameters
    ----------
    detector : estimator
        A fitted detector, or a pipeline that ends in one. One of another library is
        asked for its scores and, if it has them, for its maps.
    X : samples
        Whatever the detector takes.
    **params : dict
        Passed to the detector (`groups` of series).

    Returns
    -------
    inspection : Inspection
        Scores, decision, labels and maps, never a frame.
    """
    if hasattr(detector, "steps"):
        if len(detector.steps) > 1:
            X = detector[:-1].transform(X)
        return inspected(detector.steps[-1][1], X, **params)
    if isinstance(detector, BaseDetector):
        return Inspection(*map(to_numpy, detector.inspect(X, **params)))
    scores = np.asarray(to_numpy(detector.score_samples(X, **params)))
    if hasattr(detector, "offset_"):
        decision = scores - detector.offset_
    else:
        decision = np.asarray(to_numpy(detector.decision_function(X, **params)))
    maps = np.asarray(to_numpy(maps_of(detector, X, **params)))
    return Inspection(scores, decision, labels_of(decision), maps)


def last_step(detector):
    """Return the detector that a pipeline ends in."""
    return detector.steps[-1][1] if hasattr(detector, "steps") else detector


def reference_scores(detector, score_training):
    """Return the scores (m,) of training samples that the threshold was taken from.

    They are kept by `fit`. Where they are not, as in a detector of another library or
    one with a threshold of its own, `score_training()` returns some.
    """
    kept = getattr(last_step(detector), "_reference_", None)
    if kept is None:
        return np.asarray(to_numpy(score_training()))
    return -kept


def threshold_of(detector, scores):
    """Return the threshold that scores (m,) of held-out normal samples give.

    It means what the detector's own means: `contamination` is the share of the samples
    below it, or "auto" leaves about `false_alarm_rate` of new ones below.
    """
    last = last_step(detector)
    share = getattr(last, "contamination", "auto")
    if share == "auto":
        return -upper_limit(-scores, getattr(last, "false_alarm_rate", 0.05))
    return float(np.quantile(scores, share))


def threshold_meaning(detector, unit, held_out=0):
    """Return what the threshold promises and what it was taken from, in words.

    Parameters
    ----------
    detector : estimator
        A fitted detector, or a pipeline that ends in one.
    unit : str
        What a sample is called.
    held_out : int, default=0
        How many held-out normal samples gave the threshold, where they did.

    Returns
    -------
    meaning : str
    """
    last = last_step(detector)
    share = getattr(last, "contamination", None)
    kept = getattr(last, "_reference_", None) is not None
    if share is not None and share != "auto":
        normal = "held-out" if held_out else "training"
        return f"{100 * share:.3g} % of the {normal} {unit}s are below it"
    if not (held_out or kept):
        return "the detector's own"
    rate = getattr(last, "false_alarm_rate", 0.05)
    source = f"{held_out:,} held-out {unit}s"
    if not held_out:
        source = f"the training {unit}s as if they were new ({last._honesty})"
    return (
        f"about {100 * rate:.3g} % of new normal {unit}s are to be below it, by the "
        f"scores of {source}"
    )


def scored_as_new(detector):
    """Tell whether `reference_scores` are of samples as if they had not been seen."""
    last = last_step(detector)
    kept = getattr(last, "_reference_", None) is not None
    return kept and last.contamination == "auto"
