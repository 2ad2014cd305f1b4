"""
Alarms at a rate that holds
===========================

A number as ``contamination`` sets the threshold by the training rows. A detector that
has fitted these closely flags many more of the new ones. The default, "auto", takes
scores of rows as if they had not been learned from, and holds about. A conformal
detector calibrates with rows that the detector has not seen; then normal rows raise an
alarm at the stated rate, with a guarantee, however good or bad the detector is.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skad import Mahalanobis
from skad.calibration import ConformalDetector
from skad.inspection import ScoreDistributionDisplay

# sevens are the anomalies; all other digits are normal
images, digits = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
normal = rng.permutation(np.flatnonzero(digits != 7))
train, test = normal[:600], normal[600:]
X_test = images[np.concatenate([test, np.flatnonzero(digits == 7)])]
y_test = np.repeat([1, -1], [len(test), np.sum(digits == 7)])

# %%
# A covariance of 64 pixels is much for 600 rows: they look closer to it than new ones.

rate = 0.05
bare = Mahalanobis(covariance="ledoit_wolf", contamination=rate).fit(images[train])
conformal = ConformalDetector(
    Mahalanobis(covariance="ledoit_wolf"), false_alarm_rate=rate, random_state=0
).fit(images[train])

auto = Mahalanobis(covariance="ledoit_wolf", false_alarm_rate=rate).fit(images[train])

compared = {"contamination": bare, "auto": auto, "conformal": conformal}
for name, detector in compared.items():
    flagged = detector.predict(X_test) == -1
    print(
        f"{name:<14} flags {flagged[y_test == 1].mean():.1%} of the normal digits and "
        f"{flagged[y_test == -1].mean():.1%} of the sevens"
    )

ScoreDistributionDisplay.from_estimator(bare, X_test, y_test, X_train=images[train])
plt.show()

# %%
# p-values
# --------
#
# A p-value says how rare a score is among those of normal rows. For normal rows all
# values are equally frequent, so that any rate can be chosen afterwards: the line is
# close to the diagonal.

p_values = conformal.p_values(X_test)
ordered = {1: np.sort(p_values[y_test == 1]), -1: np.sort(p_values[y_test == -1])}
_, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
for kind, label, style in ((1, "normal digits", "-"), (-1, "sevens", "--")):
    values = ordered[kind]
    share = np.arange(1, len(values) + 1) / len(values)
    ax.plot(values, share, style, drawstyle="steps-post", color="black", label=label)
ax.plot([0, 1], [0, 1], ":", color="#d55e00", label="what is promised, at most")
ax.set(xlabel="false alarm rate", ylabel="share that is flagged")
ax.legend(frameon=False)
plt.show()

# %%
# A batch with few false discoveries
# ----------------------------------
#
# ``detect`` looks at a batch as a whole and keeps the expected share of false alarms
# among all alarms below a rate.

found = conformal.detect(X_test, false_discovery_rate=0.3) == -1
print(
    f"{found.sum()} digits are flagged, {np.mean(y_test[found] == 1):.0%} of them "
    "are no sevens"
)
