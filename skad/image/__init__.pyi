from skad.image._folder import PictureFiles as PictureFiles
from skad.image._folder import load_folder as load_folder
from skad.image._patch_detector import PatchDetector as PatchDetector
from skad.image._tiled import TiledDetector as TiledDetector
from skad.image.density._cflow import CFLOW as CFLOW
from skad.image.density._fastflow import FastFlow as FastFlow
from skad.image.density._gaussian_ad import GaussianAD as GaussianAD
from skad.image.density._padim import PaDiM as PaDiM
from skad.image.discriminative._simplenet import SimpleNet as SimpleNet
from skad.image.discriminative._supersimplenet import SuperSimpleNet as SuperSimpleNet
from skad.image.memory._anomaly_dino import AnomalyDINO as AnomalyDINO
from skad.image.memory._cfa import CFA as CFA
from skad.image.memory._fapm import FAPM as FAPM
from skad.image.memory._inreach import InReaCh as InReaCh
from skad.image.memory._patchcore import PatchCore as PatchCore
from skad.image.memory._softpatch import SoftPatch as SoftPatch
from skad.image.memory._spade import SPADE as SPADE
from skad.image.restoration._dfm import DFM as DFM
from skad.image.restoration._dfr import DFR as DFR
from skad.image.restoration._fre import FRE as FRE
from skad.image.student._dinomaly import Dinomaly as Dinomaly
from skad.image.student._efficient_ad import EfficientAD as EfficientAD
from skad.image.student._reverse_distillation import ReverseDistillation as ReverseDistillation
from skad.image.student._stfpm import STFPM as STFPM

__all__ = ["AnomalyDINO", "CFA", "CFLOW", "DFM", "DFR", "Dinomaly", "EfficientAD", "FAPM", "FRE", "FastFlow", "GaussianAD", "InReaCh", "PaDiM", "PatchCore", "PatchDetector", "PictureFiles", "ReverseDistillation", "SPADE", "STFPM", "SimpleNet", "SoftPatch", "SuperSimpleNet", "TiledDetector", "load_folder"]
