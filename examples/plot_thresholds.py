"""
Novelties, outliers and the threshold
=====================================

Novelty detection learns from clean rows and judges new ones; outlier detection learns
from rows among which the anomalies already are. Each has a threshold of its own:
``false_alarm_rate`` is about new normal rows, ``contamination`` about training rows.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler

from skad import IsolationForest
from skad.datasets import load_breast_cancer
from skad.inspection import ThresholdDisplay

data = load_breast_cancer()
malignant = np.flatnonzero(data.y_test == -1)
later = np.setdiff1d(np.arange(len(data.y_test)), malignant[:20])
X_later, y_later = data.X_test[later], data.y_test[later]

# %%
# Clean training rows
# -------------------
#
# By default, ``contamination="auto"``, the threshold is one that about
# ``false_alarm_rate`` of new normal rows fall below. It comes from scores of training
# rows as if they had not been learned from, and says nothing of how many anomalies
# there are.


def report(model, name):
    flagged = model.predict(X_later) == -1
    print(
        f"{name}: {flagged[y_later == 1].mean():.1%} of the normal rows and "
        f"{flagged[y_later == -1].mean():.1%} of the anomalies are flagged"
    )


def fitted(X, **threshold):
    forest = IsolationForest(random_state=0, **threshold)
    return make_pipeline(RobustScaler(), forest).fit(X)


for rate in (0.01, 0.05, 0.2):
    report(fitted(data.X_train, false_alarm_rate=rate), f"clean, rate {rate}")

# %%
# Anomalies among the training rows
# ---------------------------------
#
# Now 20 tumours of the 198 that the detector learns from are malignant. A number as
# ``contamination`` is the share of the training rows below the threshold. At the share
# of the anomalies, the rows that are flagged in training are mostly they; a smaller
# value hides some of them.

mixed = np.concatenate([data.X_train, data.X_test[malignant[:20]]])
y_mixed = np.repeat([1, -1], [len(data.X_train), 20])
for contamination in (0.01, 20 / len(mixed)):
    model = fitted(mixed, contamination=contamination)
    found = model.predict(mixed) == -1
    print(
        f"contamination {contamination:.2f}: {found.sum()} of the training rows are "
        f"flagged, {found[y_mixed == -1].sum()} of them malignant"
    )
    report(model, f"mixed, contamination {contamination:.2f}")

# %%
# Another threshold
# -----------------
#
# Nothing has to be fitted anew to move the threshold: ``decision_function`` is compared
# with another number than 0. The display shows what each would find and what it would
# cost. The alarm rate needs no labels, so that a threshold can be chosen by the number
# of alarms that somebody has time to look at.

model = fitted(data.X_train)
display = ThresholdDisplay.from_estimator(model, X_later, y_later)
plt.show()

affordable = display.thresholds[display.alarm_rate <= 0.25].max()
flagged = model.decision_function(X_later) < affordable
print(
    f"a quarter of all rows may be looked at: threshold {affordable:.3f}, precision "
    f"{np.mean(y_later[flagged] == -1):.2f}"
)
