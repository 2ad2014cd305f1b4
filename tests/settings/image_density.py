"""Pictures: a density of features."""

from tests.settings import Settings
from tests.settings.image import FINE, PIXELS, SCALES

PLACES = {
    "layers": ("scale1",),
    "smoothing": 0,
    "n_steps": 1,
    "condition_size": 4,
    "max_epochs": 2,
}
BGAD = Settings(PLACES, pictures={"max_epochs": 1, "n_steps": 1, "condition_size": 4})
CFLOW = Settings(
    PLACES,
    [{"base": "learned", "base_period": 1}],
    pictures={"max_epochs": 1, "n_steps": 1, "condition_size": 4},
)
# Pixels by themselves.
PIXEL = {
    "patch_size": 1,
    "stride": 1,
    "n_levels": 1,
    "smoothing": 0,
    "batch_size": 512,
}
CompressedSensingTexture = Settings(
    {**PIXEL, "n_projections": 1, "n_components": 2, "max_patches": 300},
    [{"n_levels": 2, "patch_size": 3, "n_projections": 3}],
    pictures={"n_levels": 2, "n_components": 2},
)
ConvolutionalSparseCoding = Settings(
    {
        "n_components": 2,
        "filter_size": 1,
        "patch_size": 1,
        "stride": 1,
        "lowpass": 0.0,
        "smoothing": 0,
        "batch_size": 512,
        "n_steps": 5,
        "n_learning_steps": 2,
        "max_pictures": None,
    },
    [{"lowpass": 1.0, "filter_size": 2, "max_pictures": 5}],
    excused={"feature": "the patches of a value's neighbours have it too"},
    pictures={"n_components": 2, "filter_size": 3, "n_steps": 3, "n_learning_steps": 2},
)
CSFlow = Settings(
    {
        **FINE,
        "batch_size": 128,
        "n_scales": 2,
        "n_steps": 1,
        "hidden_size": 4,
        "max_epochs": 4,
        "lr": 0.02,
    },
    pictures={"max_epochs": 1, "n_steps": 1, "hidden_size": 4},
)
DifferNet = Settings(
    {
        **FINE,
        "batch_size": 512,
        "n_rotations": 0,
        "n_scales": 1,
        "n_steps": 1,
        "hidden_size": 4,
        "max_epochs": 4,
        "lr": 0.02,
    },
    [{"n_scored_rotations": 2, "n_rotations": 1, "n_scales": 2}],
    pictures={
        "n_scales": 2,
        "n_steps": 1,
        "hidden_size": 4,
        "n_scored_rotations": 2,
        "max_epochs": 1,
    },
)
FastFlow = Settings(
    {**FINE, "n_steps": 2, "max_epochs": 6, "lr": 0.02},
    [
        {
            "backbone": "gabor",
            "layers": ("scale1",),
            "n_steps": 4,
            "max_epochs": 5,
            "lr": 0.02,
        },
        {"attention": "cbam", "base": "learned", "base_period": 2},
    ],
    excused={"sign": "it normalises the maps of each picture, contrast and all"},
    pictures={"max_epochs": 2, "n_steps": 2},
)
FOD = Settings(
    {
        **FINE,
        "neighborhood": 1,
        "n_layers": 1,
        "n_heads": 1,
        "hidden_size": 4,
        "max_epochs": 4,
        "lr": 0.02,
    },
    [{"n_heads": 2, "target_weight": 0.0, "entropy_weight": 0.0, "hidden_size": None}],
    pictures={"n_layers": 1, "n_heads": 1, "hidden_size": 8, "max_epochs": 1},
)
GCPF = Settings(
    {**SCALES, "n_clusters": 1, "max_patches": 300},
    [{"n_clusters": 3, "max_steps": 0}],
    pictures={"n_clusters": 2, "max_steps": 5},
)
GaussianAD = Settings(SCALES, pictures={})
MultiscaleSparseCoding = Settings(
    {
        **PIXEL,
        "patch_size": 3,
        "n_components": 4,
        "n_steps": 10,
        "max_patches": 100,
        "max_epochs": 1,
    },
    [{"group_penalty": 0.0, "n_levels": 2}],
    excused={"feature": "the patches of a value's neighbours have it too"},
    pictures={"n_levels": 2, "n_components": 4, "max_epochs": 1},
)
NPAD = Settings(
    {**PIXELS, "n_clusters": 2},
    [{"radius": 0, "centroid_weight": 1.0}],
    pictures={"n_features": 8},
)
PaDiM = Settings(
    PIXELS, [{"reduction": "orthogonal", "n_features": 2}], pictures={"n_features": 8}
)
PyramidFlow = Settings(
    {
        **FINE,
        "n_levels": 2,
        "n_steps": 1,
        "kernel_size": 1,
        "max_epochs": 1,
    },
    [{"volume": "places", "backbone": "orthogonal", "layers": None}],
    pictures={"n_levels": 2, "n_steps": 1, "n_channels": 4, "max_epochs": 1},
)
RFS = Settings({**FINE, "batch_size": 512}, pictures={})
SemiOrthogonal = Settings({**PIXELS, "n_features": 2}, pictures={"n_features": 8})
SOMAD = Settings(
    {**PIXELS, "map_shape": (1, 3), "n_rough_epochs": 2, "n_fine_epochs": 2},
    [{"map_shape": (1, 2), "n_neighbors": 1, "n_features": 2}],
    pictures={"map_shape": (2, 3), "n_rough_epochs": 1, "n_fine_epochs": 1},
)
Texems = Settings(
    {**PIXEL, "n_texems": 2, "max_patches": 300},
    [{"n_texems": 1, "min_deviation": 0.1}],
    pictures={"n_levels": 2, "n_texems": 2},
)
