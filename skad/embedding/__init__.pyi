from skad.embedding._patches import PatchEmbedding as PatchEmbedding
from skad.embedding._period import dominant_period as dominant_period

__all__ = ["PatchEmbedding", "dominant_period"]
