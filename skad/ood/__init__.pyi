from skad.ood._ash import ASH as ASH
from skad.ood._compare import compare as compare
from skad.ood._compare import extract as extract
from skad.ood._dice import DICE as DICE
from skad.ood._energy import Energy as Energy
from skad.ood._entropy import Entropy as Entropy
from skad.ood._gen import GEN as GEN
from skad.ood._generalized_odin import GeneralizedODIN as GeneralizedODIN
from skad.ood._grad_norm import GradNorm as GradNorm
from skad.ood._kl_matching import KLMatching as KLMatching
from skad.ood._knn_ood import KNNOOD as KNNOOD
from skad.ood._mahalanobis_ood import MahalanobisOOD as MahalanobisOOD
from skad.ood._max_logit import MaxLogit as MaxLogit
from skad.ood._max_softmax import MaxSoftmax as MaxSoftmax
from skad.ood._nn_guide import NNGuide as NNGuide
from skad.ood._odin import ODIN as ODIN
from skad.ood._ood_detector import OODDetector as OODDetector
from skad.ood._open_max import OpenMax as OpenMax
from skad.ood._outlier_exposure import OutlierExposure as OutlierExposure
from skad.ood._pnml import PNML as PNML
from skad.ood._react import ReAct as ReAct
from skad.ood._relative_mahalanobis import RelativeMahalanobis as RelativeMahalanobis
from skad.ood._scale import SCALE as SCALE
from skad.ood._she import SHE as SHE
from skad.ood._temperature_scaling import TemperatureScaling as TemperatureScaling
from skad.ood._vim import ViM as ViM

__all__ = ["ASH", "DICE", "Energy", "Entropy", "GEN", "GeneralizedODIN", "GradNorm", "KLMatching", "KNNOOD", "MahalanobisOOD", "MaxLogit", "MaxSoftmax", "NNGuide", "ODIN", "OODDetector", "OpenMax", "OutlierExposure", "PNML", "ReAct", "RelativeMahalanobis", "SCALE", "SHE", "TemperatureScaling", "ViM", "compare", "extract"]
