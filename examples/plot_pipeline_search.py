"""
Choose a pipeline with known anomalies
======================================

Detector, scaling and parameters are chosen together by ``GridSearchCV``.
``NoveltyKFold`` trains on normal rows and tests on both kinds, so that no model has
seen a known anomaly.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skad import KNN, LOF, IsolationForest
from skad.datasets import load_breast_cancer
from skad.inspection import ThresholdDisplay, detection_metrics
from skad.model_selection import NoveltyKFold

data = load_breast_cancer()
# half of the anomalies are known when parameters are chosen, the others come later
known = np.flatnonzero(data.y_test == -1)[::2]
X = np.concatenate([data.X_train, data.X_test[known]])
y = np.repeat([1, -1], [len(data.X_train), len(known)])

search = GridSearchCV(
    Pipeline([("scale", StandardScaler()), ("detect", KNN())]),
    [
        {
            "scale": [StandardScaler(), MinMaxScaler()],
            "detect": [KNN(), LOF()],
            "detect__n_neighbors": [5, 20, 50],
        },
        {"detect": [IsolationForest(random_state=0)]},
    ],
    scoring="roc_auc",
    cv=NoveltyKFold(5, shuffle=True, random_state=0),
    refit=False,
).fit(X, y)
print(f"ROC AUC in cross-validation: {search.best_score_:.3f}")
print("chosen:", search.best_params_)

# %%
# The final model learns from the normal rows alone, as in every fold, and is judged on
# rows that had no part in the choice:

model = search.estimator.set_params(**search.best_params_).fit(data.X_train)
later = np.setdiff1d(np.arange(len(data.y_test)), known)
decision = model.decision_function(data.X_test[later])
for name, value in detection_metrics(data.y_test[later], decision).items():
    print(f"{name:<18} {value:.3f}")

# %%
# What other thresholds would find and what they would cost:

ThresholdDisplay.from_estimator(model, data.X_test[later], data.y_test[later])
plt.show()
