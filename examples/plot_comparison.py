"""
Detectors side by side
======================

What detectors learn from the same rows differs in shape. In the plane the shapes can be
seen; on real data, folds show how much of a difference is left.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_blobs, make_moons
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skad import (
    ECOD,
    GMM,
    KNN,
    LOF,
    IsolationForest,
    Mahalanobis,
    OneClassSVM,
)
from skad.datasets import load_breast_cancer
from skad.inspection import DetectorComparisonDisplay
from skad.model_selection import NoveltyKFold

# %%
# Shapes in the plane
# -------------------
#
# The bright region holds what is normal to the detector, the dots are what it learned
# from, 5 % of them anomalies that lie anywhere.

rng = np.random.default_rng(0)
sets = {
    "one cloud": rng.normal(size=(285, 2)) @ [[1.2, 0.9], [0.0, 0.5]],
    "two densities": make_blobs(
        285, centers=[[-2, -2], [2, 2]], cluster_std=[0.3, 1.2], random_state=0
    )[0],
    "two moons": 2.5 * make_moons(285, noise=0.06, random_state=0)[0] - [1.2, 0.6],
}
plane = {
    "Mahalanobis": Mahalanobis(contamination=0.05),
    "ECOD": ECOD(contamination=0.05),
    "GMM": GMM(n_components=2, contamination=0.05, random_state=0),
    "IsolationForest": IsolationForest(contamination=0.05, random_state=0),
    "KNN": KNN(contamination=0.05),
    "LOF": LOF(n_neighbors=30, contamination=0.05),
    "OneClassSVM": OneClassSVM(nu=0.05, gamma=0.5),
}

shape = len(sets), len(plane)
figure, axes = plt.subplots(*shape, figsize=(9.6, 4.3), layout="constrained")
for line, (title, rows) in zip(axes, sets.items(), strict=True):
    X = np.concatenate([rows, rng.uniform(-5, 5, size=(15, 2))])
    for ax, detector in zip(line, plane.values(), strict=True):
        DecisionBoundaryDisplay.from_estimator(
            detector.fit(X),
            np.array([[-5, -5], [5, 5]]),
            eps=0,
            grid_resolution=60,
            response_method="predict",
            cmap="cividis",
            alpha=0.7,
            ax=ax,
        )
        ax.scatter(*X.T, s=1.5, color="black")
        ax.set(xlim=(-5, 5), ylim=(-5, 5), xticks=[], yticks=[])
    line[0].set_ylabel(title, fontsize=9)
for ax, name in zip(axes[0], plane, strict=True):
    ax.set_title(name, fontsize=9)
plt.show()

# %%
# Benign tumours and others
# -------------------------
#
# ``NoveltyKFold`` trains on benign tumours and tests on both kinds. The folds' ranges
# overlap: on these data the choice matters less than the choice of rows.

data = load_breast_cancer()
X = np.concatenate([data.X_train, data.X_test])
y = np.concatenate([np.ones(len(data.X_train)), data.y_test])
scaled = {
    name: make_pipeline(StandardScaler(), detector)
    for name, detector in (plane | {"OneClassSVM": OneClassSVM(nu=0.05)}).items()
}
display = DetectorComparisonDisplay.from_estimator(
    scaled, X, y, cv=NoveltyKFold(5, shuffle=True, random_state=0)
)
plt.show()
for name, area in zip(display.names, display.roc_auc.mean(axis=1), strict=True):
    print(f"{name:<16} ROC AUC {area:.3f}")
