"""Choose a parameter without labels: excess mass prefers what labels would prefer.

Two crescents in the plane are normal. Each candidate is scored twice: by the excess
mass of its scores, which needs no labels, and by the ROC AUC, which does.
"""

import numpy as np
from sklearn.datasets import make_moons
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

print("bandwidth  excess mass  ROC AUC")
for parameters, score in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    detector = KDE(**parameters).fit(X[:400])
    auc = roc_auc_score(is_normal, detector.score_samples(X_test))
    chosen = "  chosen" if parameters == search.best_params_ else ""
    print(f"{parameters['bandwidth']:>9}  {score:>11.3f}  {auc:>7.3f}{chosen}")
