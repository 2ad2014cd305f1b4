"""The base of thresholds that need no labels."""

from abc import abstractmethod
from typing import Any

from skad._parameters import with_parameters
from skad.calibration._base import DetectorAround
from skad.calibration._held import known_anomalies
from skad.calibration._rows import n_rows


@with_parameters
class Threshold(DetectorAround):
    """Base of detectors with a threshold from the scores of normal samples alone.

    A class writes `_threshold(scores)`, of scores (m,) where higher is more normal.

    Parameters
    ----------
    cv : int, splitter, iterable or None, default=None
        Folds whose scores come from a detector fitted on the others: an int is that
        many blocks in the order of the rows. None takes the training scores.

    Attributes
    ----------
    detector_ : detector
        The detector, fitted on all samples.
    """

    cv: Any = None

    _parameter_constraints = {
        "cv": ["cv_object"],
    }

    @abstractmethod
    def _threshold(self, scores):
        """Return the `offset_` that scores (m,) of normal samples give."""

    def _calibrate(self, X, y, params):
        self._fit_detector(X, y, params)
        scores, rows = self._calibration_scores(X, y, params, self.cv)
        known = known_anomalies(self._head(), y, n_rows(X), params)
        self.calibration_scores_ = scores[~known[rows]]
        if len(self.calibration_scores_) == 0:
            raise ValueError("y marks all samples as anomalies; no normal one is left.")

    def _fit_offset(self, X, y, anomaly, **params):
        return float(self._threshold(self.calibration_scores_))
