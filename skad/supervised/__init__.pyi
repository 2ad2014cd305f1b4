from skad.supervised._devnet import DevNet as DevNet
from skad.supervised._feawad import FeaWAD as FeaWAD
from skad.supervised._mixed_supervision import MixedSupervision as MixedSupervision
from skad.supervised._prenet import PReNet as PReNet
from skad.supervised._rosas import RoSAS as RoSAS

__all__ = ["DevNet", "FeaWAD", "MixedSupervision", "PReNet", "RoSAS"]
