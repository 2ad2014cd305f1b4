from skad.image._folder import PictureFiles as PictureFiles
from skad.image._folder import load_folder as load_folder
from skad.image._patch_detector import PatchDetector as PatchDetector
from skad.image._tiled import TiledDetector as TiledDetector
from skad.image.density._cflow import CFLOW as CFLOW
from skad.image.density._fastflow import FastFlow as FastFlow
from skad.image.density._gaussian_ad import GaussianAD as GaussianAD
from skad.image.density._padim import PaDiM as PaDiM
from skad.image.discriminative._simplenet import SimpleNet as SimpleNet
from skad.image.memory._cfa import CFA as CFA
from skad.image.memory._fapm import FAPM as FAPM
from skad.image.memory._inreach import InReaCh as InReaCh
from skad.image.memory._patchcore import PatchCore as PatchCore
from skad.image.memory._softpatch import SoftPatch as SoftPatch
from skad.image.memory._spade import SPADE as SPADE
from skad.image.restoration._dfr import DFR as DFR
from skad.image.student._cdo import CDO as CDO
from skad.image.student._efficient_ad import EfficientAD as EfficientAD
from skad.image.student._rd_plus_plus import RDPlusPlus as RDPlusPlus
from skad.image.student._recontrast import ReContrast as ReContrast
from skad.image.student._reverse_distillation import ReverseDistillation as ReverseDistillation
from skad.image.student._stfpm import STFPM as STFPM

__all__ = ["CDO", "CFA", "CFLOW", "DFR", "EfficientAD", "FAPM", "FastFlow", "GaussianAD", "InReaCh", "PaDiM", "PatchCore", "PatchDetector", "PictureFiles", "RDPlusPlus", "ReContrast", "ReverseDistillation", "SPADE", "STFPM", "SimpleNet", "SoftPatch", "TiledDetector", "load_folder"]
