from skad.embedding._ccd import CCD as CCD
from skad.embedding._patches import PatchEmbedding as PatchEmbedding
from skad.embedding._period import dominant_period as dominant_period
from skad.embedding._raw_patches import RawPatches as RawPatches
from skad.embedding._regions import RegionEmbedding as RegionEmbedding
from skad.embedding._simclr import SimCLR as SimCLR
from skad.embedding._vit import ViTEmbedding as ViTEmbedding

__all__ = ["CCD", "PatchEmbedding", "RawPatches", "RegionEmbedding", "SimCLR", "ViTEmbedding", "dominant_period"]
