"""Ensembles."""

import skad
from tests.settings import Settings

ExtendedIsolationForest = Settings(
    {"n_estimators": 20}, [{"extension_level": 0}, {"max_samples": 32}]
)
FeatureBagging = Settings(
    {"n_estimators": 3},
    [
        {"detector": skad.Mahalanobis(), "combination": "cumulative"},
        {"detector": skad.ECOD(), "combination": "maximum", "n_jobs": 2},
    ],
)
INNE = Settings(variants=[{"n_estimators": 50, "max_samples": 16}])
DIF = Settings(
    {"n_representations": 3, "hidden_sizes": (30, 20), "max_samples": 64},
    [{"measure": "path", "activation": "relu"}],
)
IsolationForest = Settings(
    {"n_estimators": 10},
    [
        {"bootstrap": True, "random_state": 0},
        {"max_features": 0.5, "random_state": 0},
    ],
)
InputComplexity = Settings({"detector": skad.Mahalanobis()}, [{"codec": "best"}])
LikelihoodRatio = Settings(
    {"detector": skad.GMM(1)},
    [{"detector": skad.KDE(), "replacement": "permuted"}],
    excused={
        (test, "permuted"): "both densities end where the values of features do"
        for test in ("sign", "feature")
    },
)
RefinedDetector = Settings(
    {"n_splits": 3},
    [
        {"detector": skad.ECOD(), "vote": "all", "n_refinements": 2},
        {"detector": skad.IsolationForest(5), "outlier_fraction": 0.3},
    ],
)
ScoreEnsemble = Settings(
    {"detectors": [("knn", skad.KNN()), ("ecod", skad.ECOD())]},
    [
        {"combination": "maximum"},
        {"combination": "rank", "weights": [2, 1]},
        {"combination": "lscp", "n_subspaces": 3},
    ],
)
