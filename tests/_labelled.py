"""Detectors whose `fit` needs class labels, which label their rows themselves.

They have the names of the detectors they are, so that the registry speaks of both.
"""

import warnings

import numpy as np

import skad
from tests._classifiers import own_labels


class _LabelsItself:
    def fit(self, X, y=None):
        if y is None:
            try:
                rows = np.asarray(X, dtype=float)
                y = own_labels(rows) if rows.ndim == 2 and len(rows) else None
            except (TypeError, ValueError):
                pass  # the detector says what is wrong with the rows
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No outlier is marked|All labels are pre")
            return super().fit(X, y)


class GeneralizedODIN(_LabelsItself, skad.GeneralizedODIN):
    pass


class OutlierExposure(_LabelsItself, skad.OutlierExposure):
    pass


class TemperatureScaling(_LabelsItself, skad.TemperatureScaling):
    pass
