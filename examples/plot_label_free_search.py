"""
Choose a parameter without labels
=================================

Two crescents in the plane are normal. Each candidate is scored twice: by the excess
mass of its scores, which needs no labels, and by the ROC AUC, which does. The first
prefers what the second would prefer.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV

from skad import KDE
from skad.model_selection import excess_mass

X, _ = make_moons(600, noise=0.07, random_state=0)
rng = np.random.default_rng(0)
X_test = np.concatenate([X[400:], rng.uniform([-1.5, -1], [2.5, 1.5], (200, 2))])
is_normal = np.repeat([True, False], 200)

search = GridSearchCV(
    KDE(), {"bandwidth": [0.02, 0.05, 0.1, 0.2, 0.5, 1.0]}, scoring=excess_mass
).fit(X[:400])

# %%
# The labels only judge the choice afterwards:

print("bandwidth  excess mass  ROC AUC")
aucs = []
for parameters, score in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    detector = KDE(**parameters).fit(X[:400])
    aucs.append(roc_auc_score(is_normal, detector.score_samples(X_test)))
    chosen = "  chosen" if parameters == search.best_params_ else ""
    print(f"{parameters['bandwidth']:>9}  {score:>11.3f}  {aucs[-1]:>7.3f}{chosen}")

# %%
# A small bandwidth sees an island around every row, a large one a single cloud:

candidates = (0.02, search.best_params_["bandwidth"], 1.0)
figure, axes = plt.subplots(1, 3, figsize=(7.5, 2.6), layout="constrained")
for ax, bandwidth in zip(axes, candidates, strict=True):
    detector = KDE(bandwidth=bandwidth, contamination=0.05).fit(X[:400])
    DecisionBoundaryDisplay.from_estimator(
        detector, X_test, response_method="predict", alpha=0.4, cmap="cividis", ax=ax
    )
    ax.scatter(*X[:400].T, s=3, color="black")
    ax.set(title=f"bandwidth {bandwidth}", xticks=[], yticks=[])
plt.show()
