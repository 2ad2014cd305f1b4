"""From scores to alarms: thresholds with a known risk, and thresholds for streams.

Scores are anomaly scores here, higher = more anomalous: ``-detector.score_samples(X)``.
Predictions are those of detectors, 1 normal and -1 an anomaly.
"""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)
