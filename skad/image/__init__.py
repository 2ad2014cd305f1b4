"""Detectors on pictures, and what brings pictures in."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_folder": ["PictureFiles", "load_folder"],
        "_patch_detector": ["PatchDetector"],
        "_tiled": ["TiledDetector"],
        "density._cflow": ["CFLOW"],
        "density._fastflow": ["FastFlow"],
        "density._padim": ["PaDiM"],
        "discriminative._simplenet": ["SimpleNet"],
        "memory._patchcore": ["PatchCore"],
        "memory._spade": ["SPADE"],
        "restoration._dfr": ["DFR"],
        "student._reverse_distillation": ["ReverseDistillation"],
        "student._stfpm": ["STFPM"],
    },
)
