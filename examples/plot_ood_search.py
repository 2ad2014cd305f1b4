"""
Know when not to believe a classifier
=====================================

Digits 0 to 4 are classes; 5 to 9 the classifier never sees, and yet it answers each of
them with one of its classes. Detectors around the classifier say which answers not to
believe.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.neural_network import MLPClassifier

from skad.inspection import DetectorComparisonDisplay, ScoreDistributionDisplay
from skad.ood import (
    KNNOOD,
    ODIN,
    Energy,
    MahalanobisOOD,
    MaxSoftmax,
    RelativeMahalanobis,
    compare,
)

images, digits = load_digits(return_X_y=True)
images = images / 16
inside = np.flatnonzero(digits < 5)
train, test = train_test_split(
    inside, test_size=0.4, stratify=digits[inside], random_state=0
)
unseen = np.flatnonzero(digits >= 5)
known, later = unseen[:100], unseen[100:]
X_test = images[np.concatenate([test, later])]
y_test = np.repeat([1, -1], [len(test), len(later)])

# %%
# Several methods around one classifier: it is fitted once, and runs once on each set.
# Features of the digits tell more than the classifier's own confidence.

classifier = MLPClassifier((64, 32), alpha=1e-3, tol=1e-3, max_iter=300, random_state=0)
methods = [
    MaxSoftmax(),
    Energy(),
    MahalanobisOOD(),
    RelativeMahalanobis(),
    KNNOOD(n_neighbors=5),
]
scores = compare(methods, classifier, images[train], digits[train], X_test=X_test)
for name, found in scores.items():
    print(f"{name:<20} ROC AUC {roc_auc_score(y_test, found):.3f}")

DetectorComparisonDisplay.from_predictions(scores, y_test)
plt.show()

# %%
# Parameters chosen with known outliers
# -------------------------------------
#
# The temperature and the step of ``ODIN`` are chosen with some unseen digits that are
# known. A scorer takes what is in and out of the distribution as ``y``, so the class
# labels reach ``fit`` as ``y_class``, by scikit-learn's metadata routing.

rows = np.concatenate([train, known])
y = np.repeat([1, -1], [len(train), len(known)])
with config_context(enable_metadata_routing=True):
    odin = ODIN(LogisticRegression(max_iter=1000)).set_fit_request(y_class=True)
    search = GridSearchCV(
        odin,
        {"temperature": [1, 10, 1000], "epsilon": [0.0, 0.01, 0.05]},
        scoring="roc_auc",
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
    ).fit(images[rows], y, y_class=digits[rows].astype(str))
print("chosen:", search.best_params_)
found = search.score_samples(X_test)
print(f"{'ODIN':<20} ROC AUC {roc_auc_score(y_test, found):.3f}")

# %%
# ``predict_with_rejection`` returns a class, or what is given for "none of them":

nearest = KNNOOD(classifier, n_neighbors=5, contamination=0.05)
nearest.fit(images[train], digits[train].astype(str))
labels = nearest.predict_with_rejection(X_test, reject="unknown")
print("first known digits:", labels[:5].tolist())
print("last unseen digits:", labels[-5:].tolist())
ScoreDistributionDisplay.from_estimator(nearest, X_test, y_test)
plt.show()
