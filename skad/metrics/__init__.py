"""How good scores and maps are, given labels.

One convention holds for every metric here:

- ``y_true`` are skad's labels, -1 an anomaly and 1 normal, or booleans with True an
  anomaly. Labels in another code need ``pos_label``, the value that marks an anomaly:
  ``pos_label=1`` for the 0/1 of most data sets. There is no guess, since 0 is an
  unlabelled sample to the detectors and a column of ones can be read both ways.
- ``anomaly_score`` is higher where the sample is more anomalous, as maps are. That of a
  detector is ``-detector.score_samples(X)``, or ``-detector.decision_function(X)``.
- ``y_pred``, where a metric judges decisions, comes as ``predict`` returns it (-1 an
  anomaly) or as booleans; ``pos_label`` holds for it too.
- The result is a float, higher = better. Where nothing is defined (no anomaly among
  the labels) it is NaN with an `UndefinedMetricWarning`; scores with NaN or infinity
  are a ValueError.

Scorers (``..._scorer``) call the detector and turn the sign themselves, for
``GridSearchCV(scoring=...)``. ``scoring="roc_auc"`` and ``"average_precision"`` of
scikit-learn work with skad's labels too, but their positive class is the normal one:
the ROC AUC is the same, the average precision is not.
"""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)
