from skad.ensemble._feature_bagging import FeatureBagging as FeatureBagging
from skad.ensemble._inne import INNE as INNE
from skad.ensemble._isolation_forest import IsolationForest as IsolationForest
from skad.ensemble._score_ensemble import ScoreEnsemble as ScoreEnsemble

__all__ = ["FeatureBagging", "INNE", "IsolationForest", "ScoreEnsemble"]
