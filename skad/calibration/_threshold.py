"""The base of thresholds that need no labels."""

from abc import abstractmethod
from typing import Any

import numpy as np

from skad._array import like
from skad._group_rows import rows_by_label
from skad._parameters import with_parameters
from skad._rows import n_rows
from skad._sklearn import StrOptions
from skad.calibration._base import DetectorAround
from skad.calibration._held import known_anomalies


@with_parameters
class Threshold(DetectorAround):
    """Base of detectors with a threshold from the scores of normal samples alone.

    A class writes `_threshold(scores)`, of scores (m,) where higher is more normal.

    Parameters
    ----------
    cv : "auto", int, splitter, iterable or None, default="auto"
        Which scores are learned from. "auto" takes those from which the detector set
        its own threshold, as if it had not learned from the sample; where it has none
        of its own, those of copies fitted without a fifth of the samples. An int, a
        splitter or folds: each score comes from a copy fitted to the other folds, an
        int is that many blocks in the order of the rows. None takes the training
        scores.
    per_group : bool, default=False
        Whether each group of rows has a threshold of its own, for machines whose scores
        differ. Then `groups`, one label a row, go with `X` wherever it goes, and also
        to the detector if that takes them. Scores are shifted so that the group's own
        threshold lies at `offset_`, which is that of all scores together; rows of
        groups that `fit` has not seen keep the scores of `detector`, and so have the
        threshold of all.

    Attributes
    ----------
    detector_ : detector
        The detector, fitted on all samples.
    offsets_ : dict
        With `per_group` the threshold of each group, by label.
    """

    cv: Any = "auto"
    per_group: bool = False

    _parameter_constraints = {
        "cv": ["cv_object", StrOptions({"auto"})],
        "per_group": ["boolean"],
    }

    @abstractmethod
    def _threshold(self, scores):
        """Return the `offset_` that scores (m,) of normal samples give."""

    def _calibrate(self, X, y, params):
        known = known_anomalies(self._head(), y, n_rows(X), params)
        honest = self._fit_detector(X, y, params, self.cv)
        scores, rows = self._calibration_scores(X, y, params, self.cv, honest)
        if rows is None:  # of normal ones
            self.calibration_scores_ = scores
            return
        normal = ~known[rows]
        self.calibration_scores_ = scores[normal]
        if len(self.calibration_scores_) == 0:
            raise ValueError("y marks all samples as anomalies; no normal one is left.")
        if self.per_group:
            self.offsets_ = self._offsets(rows[normal], n_rows(X))

    def _offsets(self, rows, n):
        """Return {label: threshold} of the groups of the scores, of rows (m,)."""
        if self._labels_ is None:
            raise ValueError(
                f"{type(self).__name__}(per_group=True) needs groups, one label a row: "
                "fit(X, groups=groups)."
            )
        found = {}
        for label, own in rows_by_label(self._labels_, n, "sample").items():
            inside = np.zeros(n, dtype=bool)
            inside[own] = True
            scores = self.calibration_scores_[inside[rows]]
            if len(scores):
                found[label] = float(self._threshold(scores))
        return found

    def _fit_offset(self, X, y, anomaly, **params):
        return float(self._threshold(self.calibration_scores_))

    # ------------------------------------------------------------------------- scoring

    def _uses_groups(self):
        return self.per_group

    def _shifted(self, scores, groups):
        """Return scores (n,) with the threshold of each row's group at `offset_`."""
        if not self.per_group:
            return scores
        if groups is None:
            raise ValueError(
                f"groups is missing: this {type(self).__name__} has a threshold for "
                f"each of {len(self.offsets_)} groups."
            )
        shift = np.zeros(len(scores))
        for label, own in rows_by_label(groups, len(scores), "sample").items():
            shift[own] = self.offset_ - self.offsets_.get(label, self.offset_)
        return scores + like(shift, scores)

    def _scores(self, X, params):
        scores = super()._scores(X, self._passed(params))
        return self._shifted(scores, params.get("groups"))

    def _maps(self, X, params):
        return super()._maps(X, self._passed(params))

    def _scores_and_maps(self, X, params):
        scores, maps = super()._scores_and_maps(X, self._passed(params))
        return self._shifted(scores, params.get("groups")), maps
