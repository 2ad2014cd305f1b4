from skad.ensemble._detector_features import DetectorFeatures as DetectorFeatures
from skad.ensemble._dif import DIF as DIF
from skad.ensemble._extended_isolation_forest import ExtendedIsolationForest as ExtendedIsolationForest
from skad.ensemble._feature_bagging import FeatureBagging as FeatureBagging
from skad.ensemble._inne import INNE as INNE
from skad.ensemble._input_complexity import InputComplexity as InputComplexity
from skad.ensemble._isolation_forest import IsolationForest as IsolationForest
from skad.ensemble._likelihood_ratio import LikelihoodRatio as LikelihoodRatio
from skad.ensemble._refined import RefinedDetector as RefinedDetector
from skad.ensemble._score_ensemble import ScoreEnsemble as ScoreEnsemble

__all__ = ["DIF", "DetectorFeatures", "ExtendedIsolationForest", "FeatureBagging", "INNE", "InputComplexity", "IsolationForest", "LikelihoodRatio", "RefinedDetector", "ScoreEnsemble"]
