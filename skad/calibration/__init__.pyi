from skad.calibration._a_contrario import AContrario as AContrario
from skad.calibration._conformal import ConformalDetector as ConformalDetector
from skad.calibration._events import Event as Event
from skad.calibration._events import to_events as to_events
from skad.calibration._evt_threshold import EVTThreshold as EVTThreshold
from skad.calibration._mad_threshold import MADThreshold as MADThreshold
from skad.calibration._probability import ProbabilityCalibrator as ProbabilityCalibrator
from skad.calibration._quantile_threshold import QuantileThreshold as QuantileThreshold
from skad.calibration._spot import DSPOT as DSPOT
from skad.calibration._spot import SPOT as SPOT
from skad.calibration._telemanom import TelemanomThreshold as TelemanomThreshold
from skad.calibration._threshold_tuner import ThresholdTuner as ThresholdTuner

__all__ = ["AContrario", "ConformalDetector", "DSPOT", "EVTThreshold", "Event", "MADThreshold", "ProbabilityCalibrator", "QuantileThreshold", "SPOT", "TelemanomThreshold", "ThresholdTuner", "to_events"]
