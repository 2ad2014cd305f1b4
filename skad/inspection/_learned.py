"""What a detector has learned, with all that findings about new data say of it.

`examine` and its like learn and look in one go; a model in a file has learned before,
and looks at data that came later.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skad.embedding import dominant_period
from skad.inspection._findings import description, timed
from skad.inspection._inspected import (
    last_step,
    reference_scores,
    scored_as_new,
    threshold_meaning,
)


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A fitted detector, and what is said of how it was fitted.

    Parameters
    ----------
    detector : estimator
        Fitted; a pipeline that ends in a detector, too.
    name : str
        What the detector is called.
    setting : str
        The detector with its parameters.
    n_train : int
        Number of training samples.
    train_score : ndarray of shape (m,)
        Scores that the threshold was taken from, or of some training samples.
    threshold : float
        The score below which a sample is an anomaly.
    meaning : str
        What the threshold promises, and what it was taken from.
    as_new : bool
        Whether `train_score` is that of samples as if they had not been seen.
    fit_seconds : float
        How long `fit` took.
    held_out : int, default=0
        How many normal samples were held out and gave the threshold.
    train_range : ndarray of shape (3, d) or None, default=None
        Of rows: quantiles 5 %, 50 % and 95 % of the training rows.
    scale : tuple of float or None, default=None
        Of pictures with held-out ones: the value of maps that is drawn clear, and that
        at the threshold.
    window : int or None, default=None
        Of series: the steps that metrics take for one stretch.
    """

    detector: Any
    name: str
    setting: str
    n_train: int
    train_score: np.ndarray
    threshold: float
    meaning: str
    as_new: bool
    fit_seconds: float
    held_out: int = 0
    train_range: Any = None
    scale: Any = None
    window: Any = None

    def found(self, score):
        """Return what `Findings` say of the fit and of scores, by their names."""
        return {
            "name": self.name,
            "setting": self.setting,
            "n_train": self.n_train,
            "train_decision": self.train_score - self.threshold,
            "threshold": self.threshold,
            "meaning": self.meaning,
            "as_new": self.as_new,
            "held_out": self.held_out,
            "fit_seconds": self.fit_seconds,
            "score": score,
            "decision": score - self.threshold,
        }


def learned_rows(detector, X, y=None, *, name=None, score_some):
    """Fit a detector on rows of a table.

    Parameters
    ----------
    detector : estimator
        A detector, or a pipeline that ends in one.
    X : array of shape (n, d)
        The rows.
    y : array of shape (n,) or None, default=None
        Passed to `fit`.
    name : str or None, default=None
        What the detector is called; the class of the last step if None.
    score_some : callable
        Takes the fitted detector, and returns scores of some training rows where the
        detector keeps none.

    Returns
    -------
    learned : Learned
    """
    setting = description(detector)
    _, seconds = timed(detector.fit, X, y)
    return _learned(
        detector,
        "row",
        reference_scores(detector, lambda: score_some(detector)),
        seconds,
        name=name,
        setting=setting,
        n_train=len(X),
        train_range=np.quantile(X, [0.05, 0.5, 0.95], axis=0),
    )


def learned_series(detector, X, y=None, *, groups=None, name=None, most):
    """Fit a detector on series; a pipeline's steps before it see rows one by one.

    Parameters
    ----------
    detector : estimator
        A detector on series, or a pipeline that ends in one.
    X : array of shape (n, c)
        The series; rows are time steps.
    y : array of shape (n,) or None, default=None
        Passed to `fit`.
    groups : array of shape (n,) or None, default=None
        Which series each row belongs to.
    name : str or None, default=None
        What the detector is called; the class of the last step if None.
    most : int
        How many training scores are kept, evenly spread.

    Returns
    -------
    learned : Learned
    """
    setting = description(detector)
    last, seen = last_step(detector), X
    if last is not detector:  # a pipeline's score_samples takes no groups
        seen = detector[:-1].fit_transform(X)
    params = {} if groups is None else {"groups": groups}
    _, seconds = timed(last.fit, seen, y, **params)
    scores = reference_scores(last, lambda: last.score_samples(seen, **params))
    return _learned(
        detector,
        "time step",
        scores[:: -(-len(scores) // most)],
        seconds,
        name=name,
        setting=setting,
        n_train=len(X),
        window=int(getattr(last, "window_size_", None) or dominant_period(seen)),
    )


def learned_pictures(detector, X, *, held_out=None, name=None, score_some):
    """Fit a detector on pictures.

    Parameters
    ----------
    detector : estimator
        A detector that takes pictures.
    X : PictureFiles or array of shape (n, h, w) or (n, h, w, c)
        The pictures.
    held_out : callable or None, default=None
        Takes the fitted detector and returns the number of held-out pictures, their
        scores, the threshold that these give, and the scale of the maps.
    name : str or None, default=None
        What the detector is called; its class if None.
    score_some : callable
        Takes the fitted detector, and returns scores of some training pictures where
        the detector keeps none.

    Returns
    -------
    learned : Learned
    """
    setting = description(detector)
    _, seconds = timed(detector.fit, X)
    more = {"name": name, "setting": setting, "n_train": len(X)}
    if held_out is None:
        scores = reference_scores(detector, lambda: score_some(detector))
        return _learned(detector, "picture", scores, seconds, **more)
    n, scores, threshold, scale = held_out(detector)
    more |= {"held_out": n, "threshold": threshold, "scale": scale}
    return _learned(detector, "picture", scores, seconds, **more)


def learned_before(detector, unit, scores, **about):
    """Return a `Learned` of a detector that was fitted before.

    Parameters
    ----------
    detector : estimator
        Fitted.
    unit : str
        What a sample is called.
    scores : array of shape (m,) or None
        Scores of training samples that were kept beside the detector, where it keeps
        none itself.
    **about : dict
        What else `Learned` says.

    Returns
    -------
    learned : Learned
    """
    if scores is None:
        scores = reference_scores(detector, list)
    return _learned(detector, unit, np.asarray(scores), **about)


def _learned(detector, unit, scores, fit_seconds, *, name=None, held_out=0, **more):
    more.setdefault("threshold", float(last_step(detector).offset_))
    return Learned(
        detector=detector,
        name=name or type(last_step(detector)).__name__,
        train_score=scores,
        meaning=threshold_meaning(detector, unit, held_out),
        as_new=held_out > 0 or scored_as_new(detector),
        fit_seconds=fit_seconds,
        held_out=held_out,
        **more,
    )
