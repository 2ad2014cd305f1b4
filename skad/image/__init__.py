"""Detectors on pictures, and what brings pictures in."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_cflow": ["CFLOW"],
        "_dfr": ["DFR"],
        "_fastflow": ["FastFlow"],
        "_folder": ["PictureFiles", "load_folder"],
        "_padim": ["PaDiM"],
        "_patch_detector": ["PatchDetector"],
        "_patchcore": ["PatchCore"],
        "_reverse_distillation": ["ReverseDistillation"],
        "_simplenet": ["SimpleNet"],
        "_spade": ["SPADE"],
        "_stfpm": ["STFPM"],
        "_tiled": ["TiledDetector"],
    },
)
