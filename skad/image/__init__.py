"""Detectors on pictures, and what brings pictures in."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_folder": ["PictureFiles", "load_folder"],
        "_padim": ["PaDiM"],
        "_patch_detector": ["PatchDetector"],
        "_patchcore": ["PatchCore"],
        "_tiled": ["TiledDetector"],
    },
)
