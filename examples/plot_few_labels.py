"""
Start without labels, add ten
=============================

Three of ten features of the anomalies are shifted by less than two deviations: no
detector without labels finds many. Somebody looks at the ten rows that it finds most
anomalous, then a detector that learns from labels names the next ten, and so on.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import average_precision_score

import skad
from skad.model_selection import query

rng = np.random.default_rng(0)
X, X_new = rng.normal(size=(2, 2000, 10))
is_anomaly = np.arange(2000) < 100
X[is_anomaly, :3] += 1.8
X_new[is_anomaly, :3] += 1.8

detector = skad.KNN().fit(X)
y = np.zeros(len(X), dtype=int)
precision = [average_precision_score(is_anomaly, -detector.score_samples(X_new))]

# %%
# A round names ten rows, ``y`` keeps what was said of them, and all rows are learned
# from again. The rows without a label count as normal, anomalies among them too:

for _ in range(6):
    looked_at = query(detector, X, 10, y=y)
    y[looked_at] = np.where(is_anomaly[looked_at], -1, 1)
    detector = skad.DevNet(random_state=0).fit(X, y)
    scores = detector.score_samples(X_new)
    precision.append(average_precision_score(is_anomaly, -scores))
    print(f"{(y != 0).sum()} looked at, {(y == -1).sum()} anomalies known")

# %%
# How well new rows are ranked, rated by labels that nobody gave:

figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.plot(10 * np.arange(len(precision)), precision, marker="o", color="black")
ax.set(xlabel="rows looked at", ylabel="average precision on new rows", ylim=(0, 1))
ax.annotate("without labels: KNN", (0, precision[0]), (3, precision[0] - 0.12))
plt.show()
