"""Pictures: the nearest among kept patches."""

import numpy as np

from tests._pixels import Learned
from tests.settings import Settings
from tests.settings.image import FINE, PIXELS, SCALES
from tests.settings.supervised import known_anomalies

AnomalyDINO = Settings(
    {**FINE, "n_rotations": 1, "coreset_ratio": 0.2},
    [{"n_rotations": 2, "mask": "pca", "bank_size": 40}],
    excused={"outliers": "the bank holds the farthest of the training patches"},
    pictures={"n_rotations": 2},
)
CFA = Settings(
    {**FINE, "max_epochs": 2},
    [{**SCALES, "max_epochs": 2, "center_reduction": 2, "n_neighbors": 1}],
    excused={
        "feature": "far from six means is a feature of large spread, moved or not"
    },
    pictures={"max_epochs": 2},
)
ReConPatch = Settings(
    {
        **FINE,
        "neighborhood": 1,
        "max_epochs": 2,
        "code_size": 8,
        "step_size": 64,
        "coreset_ratio": 0.2,
    },
    excused={"outliers": "the bank holds the farthest of the training patches"},
    pictures={"max_epochs": 1, "code_size": 8, "coreset_ratio": 0.2},
)
CNNSelfSimilarity = Settings(
    # all regions: which is nearest to a centre hangs on rounding
    {
        **FINE,
        "batch_size": 512,
        "region_size": 1,
        "region_stride": 1,
        "dictionary_size": 10**4,
    },
    [{"n_neighbors": 1, "explained_variance": 1.0}],
    excused={"outliers": "the dictionary holds the farthest of the training regions"},
    pictures={"region_size": 8, "region_stride": 4, "dictionary_size": 10**4},
)
FAPM = Settings(
    {**PIXELS, "neighborhood": 1},
    excused={"outliers": "the banks hold the farthest of the training patches"},
    pictures={"coreset_ratio": 0.5},
)
GraphCore = Settings(
    {**PIXELS, "coreset_ratio": 0.1},
    [{"coreset_ratio": 0.1, "n_neighbors": None}],
    excused={"outliers": "the bank holds the farthest of the training patches"},
    pictures={"coreset_ratio": 0.2},
)
InReaCh = Settings(
    {**PIXELS, "neighborhood": 1, "min_length": 1},
    excused={"outliers": "the bank holds far patches that recur"},
    pictures={"coreset_ratio": 0.2},
)
MuSc = Settings(
    {**FINE, "pool_share": 0.02, "sides": (1,), "batch_size": 512},
    [{"layers": ("fine", "coarse"), "sides": (3,), "n_alike": (1,)}],
    pictures={"layers": ("scale2",)},
)
PNI = Settings(
    {
        **FINE,
        "batch_size": 512,
        "neighborhood": 1,
        "context_size": 3,
        "n_codes": 8,
        "n_layers": 2,
        "hidden_size": 8,
        "max_epochs": 1,
        "coreset_ratio": 0.2,
    },
    excused={"outliers": "the bank holds the farthest of the training patches"},
    pictures={
        "n_codes": 8,
        "n_layers": 3,
        "hidden_size": 8,
        "max_epochs": 1,
        "coreset_ratio": 0.2,
    },
)
MSPatch = Settings(
    {
        "batch_size": 512,
        "patch_sizes": (8,),
        "max_epochs": 1,
        "n_draws": 1,
        "step_size": 512,
        "code_size": 8,
        "smoothing": 0,
    },
    excused={
        "outliers": "the banks hold the farthest of the training codes",
        "feature": "its patches of 8 pixels see all the features of a row",
    },
    pictures={"max_epochs": 1, "n_draws": 2, "code_size": 8},
)
PatchSVDD = Settings(
    {
        "batch_size": 512,
        "max_epochs": 1,
        "n_draws": 1,
        "step_size": 512,
        "code_size": 8,
    },
    excused={"outliers": "the banks hold the farthest of the training codes"},
    pictures={"max_epochs": 1, "n_draws": 2, "code_size": 8},
)
PatchCore = Settings(
    {**PIXELS, "neighborhood": 1},
    [{"smoothing": 0, "n_neighbors": 9, "neighborhood": 1}],
    excused={"outliers": "the bank holds the farthest of the training patches"},
    pictures={"coreset_ratio": 0.2},
)
SelFormaly = Settings(
    {**FINE, "coreset_ratio": 0.2},
    [{"bank_size": 40, "top_share": 1.0, "layers": ("fine", "coarse")}],
    excused={"outliers": "the bank holds the farthest of the training patches"},
    pictures={},
)
SoftPatch = Settings(
    {**PIXELS, "neighborhood": 1},
    excused={"outliers": "the bank holds far patches that others rate as normal"},
    pictures={"coreset_ratio": 0.2},
)
SemiREST = Settings(
    {
        **FINE,
        "max_epochs": 1,
        "batch_size": 512,
        "neighborhood": 1,
        "n_references": 32,
        "n_blocks": 1,
        "hidden_size": 8,
    },
    [{"reach": 1.0, "n_blocks": 2, "attention_size": 2}],
    excused={
        "sign": "its transformer sees nothing far from normal features",
        "feature": "its transformer sees nothing far from normal features",
    },
    pictures={
        "max_epochs": 1,
        "layers": ("scale2",),
        "n_references": 64,
        "n_blocks": 2,
        "hidden_size": 16,
    },
)
SetFeatures = Settings(
    {**PIXELS, "n_projections": 2, "n_thresholds": 60, "n_neighbors": 2, "n_draws": 1},
    [{"n_draws": 2, "pixel_weight": 0}],
    excused={
        "feature": "what a value adds depends on which others are missing",
        "outliers": "training pictures are their own nearest",
    },
    pictures={"n_projections": 20, "n_neighbors": 2, "layers": ("scale2",)},
)
SPADE = Settings(FINE, pictures={"n_pictures": 3})

# A network with something to train.
LEARNED = {**FINE, "backbone": Learned, "layers": ("learned",), "max_epochs": 2}


def two_other_classes(X):
    """Return -1 and -2, by turns, for the tenth of the rows farthest out."""
    labels = known_anomalies(X)
    others = np.flatnonzero(labels == -1)
    labels[others[::2]] = -2
    return labels


DOC = Settings(
    {**LEARNED, "lr": 0.01},
    own_labels="a reference set with classes is what it learns beside one class",
    labels=two_other_classes,
)
REB = Settings(
    {**LEARNED, "neighborhood": 1, "lr": 0.01},
    [{"density_weight": 0.0, "max_patches": 100}],
    pictures={"max_epochs": 1},
)
PANDA = Settings({**LEARNED, "lr": 1.0}, pictures={"max_epochs": 1})
MeanShifted = Settings(
    {**LEARNED, "lr": 0.003, "batch_size": 20},
    [{"angular": True}],
    pictures={"max_epochs": 1},
)
