from skad.self_supervised._csi import CSI as CSI
from skad.self_supervised._cutpaste import CutPaste as CutPaste
from skad.self_supervised._droc import DROC as DROC
from skad.self_supervised._e3outlier import E3Outlier as E3Outlier
from skad.self_supervised._elsa import ELSA as ELSA
from skad.self_supervised._geom import GEOM as GEOM
from skad.self_supervised._goad import GOAD as GOAD
from skad.self_supervised._icl import ICL as ICL
from skad.self_supervised._loe import LOE as LOE
from skad.self_supervised._neutral import NeuTraL as NeuTraL
from skad.self_supervised._rotnet import RotNet as RotNet
from skad.self_supervised._sla2p import SLA2P as SLA2P
from skad.self_supervised._slad import SLAD as SLAD
from skad.self_supervised._ssd import SSD as SSD

__all__ = ["CSI", "CutPaste", "DROC", "E3Outlier", "ELSA", "GEOM", "GOAD", "ICL", "LOE", "NeuTraL", "RotNet", "SLA2P", "SLAD", "SSD"]
