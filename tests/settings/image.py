"""Pictures; rows are pictures of one line, narrower than the Gaussian that smooths."""

import skad
from skad.embedding import PatchEmbedding
from tests._pixels import Lines, Pixels
from tests.settings import Settings

# Pictures of one line, described pixel by pixel.
PIXELS = {"backbone": Pixels, "layers": ("pixel",), "batch_size": 512, "smoothing": 0}
# The same for networks, which need more than one value of a place.
FINE = {"backbone": Lines, "layers": ("fine",), "batch_size": 64, "smoothing": 0}
SCALES = {**FINE, "layers": ("fine", "coarse")}

PatchDetector = Settings(
    {
        "embedding": PatchEmbedding(Pixels, ("pixel",), neighborhood=1),
        "smoothing": 0,
        "batch_size": 512,
    },
    [
        {"detector": skad.KNN(), "positions": "features"},
        {"positions": "each", "pooling": "top", "scales": "each"},
    ],
    pictures={},
)
TiledDetector = Settings({"detector": skad.image.PaDiM(**PIXELS), "tile": 256})
