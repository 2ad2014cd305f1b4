"""The detectors that the common tests hold to their contracts.

`all_detectors` finds them; a class is built with its defaults unless it has a row here.
`VARIANTS` adds parameter settings that take another path through a method.
"""

from sklearn.base import clone
from sklearn.metrics.pairwise import laplacian_kernel

import skad
from skad.embedding import PatchEmbedding
from tests._classifiers import bumps, linear
from tests._pixels import Pixels

# Pictures of one line, described pixel by pixel.
PIXELS = {"backbone": Pixels, "layers": ("pixel",), "batch_size": 512}

# Constructor arguments that make a class cheap or possible to build, by class name.
CHEAP = {
    "AAE": {"max_epochs": 10, "hidden_sizes": (16,), "latent_size": 2},
    "ADAE": {"max_epochs": 10, "hidden_sizes": (16,), "latent_size": 2},
    # the discriminator's opinion has no sign outside of what it was trained on
    "ALOCC": {"max_epochs": 10, "hidden_sizes": (16,), "latent_size": 2},
    "GANomaly": {"max_epochs": 10, "hidden_sizes": (16,)},
    "SkipGANomaly": {"max_epochs": 10, "hidden_sizes": (16, 1)},
    "ALAD": {"max_epochs": 5, "hidden_sizes": (16,), "latent_size": 2},
    "AnoGAN": {
        "max_epochs": 10,
        "hidden_sizes": (16,),
        "latent_size": 2,
        "n_search_steps": 20,
    },
    "EGBAD": {"max_epochs": 10, "hidden_sizes": (16,), "latent_size": 2},
    "FAnoGAN": {
        "max_epochs": 5,
        "n_critic": 2,
        "hidden_sizes": (16,),
        "latent_size": 2,
    },
    "DeepSAD": {"max_epochs": 10, "pretrain_epochs": 5, "hidden_sizes": (16,)},
    "DeepSVDD": {"max_epochs": 10, "pretrain_epochs": 5, "hidden_sizes": (16,)},
    "AutoEncoder": {"max_epochs": 10, "hidden_sizes": (16,), "latent_size": 2},
    "DAGMM": {"max_epochs": 10, "hidden_sizes": (16,)},
    "MemAE": {"max_epochs": 10, "hidden_sizes": (16,), "n_items": 20},
    "RaPP": {"max_epochs": 10, "hidden_sizes": (16,), "latent_size": 2},
    "VAE": {"max_epochs": 10, "hidden_sizes": (16,), "latent_size": 2, "n_draws": 3},
    "FeatureBagging": {"n_estimators": 3},
    "ScoreEnsemble": {"detectors": [("knn", skad.KNN()), ("ecod", skad.ECOD())]},
    "IsolationForest": {"n_estimators": 20},
    # rates that few rows can show
    "ConformalDetector": {"false_alarm_rate": 0.2},
    "EVTThreshold": {"risk": 0.05},
    "KNNOOD": {"n_neighbors": 5},
    "GeneralizedODIN": {
        "max_epochs": 2,
        "hidden_sizes": (16,),
        "latent_size": 8,
        "epsilon": (0.0, 0.01),
    },
    "OutlierExposure": {"max_epochs": 2, "hidden_sizes": (16,)},
    # rows are pictures of one line, which are narrower than the Gaussian
    "PaDiM": {**PIXELS, "smoothing": 0},
    "SPADE": {
        "layers": ("scale2", "scale1"),
        "smoothing": 0,
        "batch_size": 512,
    },
    "CFLOW": {
        "layers": ("scale1",),
        "smoothing": 0,
        "n_steps": 1,
        "condition_size": 4,
        "max_epochs": 3,
    },
    "DFR": {"layers": ("scale1",), "max_epochs": 5, "batch_size": 64, "lr": 0.01},
    "FastFlow": {
        "layers": ("scale1",),
        "n_steps": 2,
        "max_epochs": 10,
        "lr": 0.01,
    },
    "PatchCore": {**PIXELS, "neighborhood": 1, "smoothing": 0},
    "PatchDetector": {
        "embedding": PatchEmbedding(Pixels, ("pixel",), neighborhood=1),
        "smoothing": 0,
        "batch_size": 512,
    },
    "ReverseDistillation": {
        "smoothing": 0,
        "max_epochs": 2,
        "batch_size": 64,
        "layers": ("scale1", "scale3"),
    },
    "SimpleNet": {
        "smoothing": 0,
        "max_epochs": 3,
        "batch_size": 64,
        "hidden_size": 16,
        "layers": ("scale1",),
    },
    "STFPM": {
        "smoothing": 0,
        "max_epochs": 2,
        "batch_size": 64,
        "student_channels": (8, 16),
        "layers": ("scale1", "scale2"),
    },
    "TiledDetector": {
        "detector": skad.image.PaDiM(**PIXELS, smoothing=0),
        "tile": 256,
    },
    # a window of one step, so that every row stands for itself as the checks expect
    "WindowDetector": {"window_size": 1},
    "SubsequenceKNN": {"window_size": 1, "n_neighbors": 5},
    "SubsequenceLOF": {"window_size": 1, "n_neighbors": 20},
    "KMeansAD": {"window_size": 1, "n_clusters": 5, "normalize": "none"},
    "DeepAnT": {
        "window_size": 3,
        "max_epochs": 2,
        "hidden_sizes": (8,),
        "lr": 0.01,
    },
    "LSTMForecaster": {
        "window_size": 4,
        "stride": 4,
        "horizon": 2,
        "max_epochs": 1,
        "hidden_sizes": (8,),
    },
    "LeftMatrixProfile": {"window_size": 3},
    "MatrixProfile": {"window_size": 3},
    "PASAD": {"window_size": 1, "rank": 1},
    "LSTMAutoEncoder": {"window_size": 1, "hidden_size": 8, "max_epochs": 10},
    "USAD": {
        "window_size": 1,
        "latent_size": 4,
        "max_epochs": 2,
        "hidden_sizes": (16,),
    },
    "OmniAnomaly": {"window_size": 1, "hidden_size": 8, "n_flows": 2},
}

# Classes whose `fit` needs class labels as long as their classifier is not fitted. In
# the common tests, which call fit(X), they have a classifier that labels rows itself.
NEEDS_LABELS = {
    "ASH": bumps,
    "DICE": bumps,
    "Energy": bumps,
    "Entropy": bumps,
    "GEN": bumps,
    "GradNorm": bumps,
    "KLMatching": bumps,
    "MaxLogit": bumps,
    "MaxSoftmax": bumps,
    "NNGuide": bumps,
    "ODIN": linear,  # gradients have to reach the input
    "OpenMax": bumps,
    "ReAct": bumps,
    "RelativeMahalanobis": linear,
    "SCALE": bumps,
    "SHE": bumps,
    "ViM": linear,
}
for _name, _classifier in NEEDS_LABELS.items():
    CHEAP[_name] = {"classifier": _classifier(), **CHEAP.get(_name, {})}

# Further settings of a class, by class name.
VARIANTS = {
    "WindowDetector": [
        {"window_size": 3},
        {
            "detector": skad.KNN(n_neighbors=3),
            "window_size": 3,
            "align": "max",
            "stride": 2,
            "batch_size": 7,
        },
        {"window_size": 3, "align": "end", "detector": skad.Mahalanobis()},
    ],
    "SubsequenceKNN": [{"window_size": 3, "stride": 2, "n_neighbors": 3}],
    "SubsequenceLOF": [{"window_size": 3, "align": "end"}],
    "KMeansAD": [{"window_size": 3, "align": "center", "normalize": "window"}],
    "LeftMatrixProfile": [
        {"window_size": 3, "channels": "joint", "align": "max", "stride": 2},
    ],
    "PASAD": [
        {"window_size": 4, "rank": 0.5, "measure": "residual", "align": "end"},
    ],
    "LSTMAutoEncoder": [
        {"window_size": 3, "max_epochs": 1, "align": "max", "teacher_forcing": True},
    ],
    "USAD": [{"window_size": 3, "max_epochs": 1, "stride": 2, "align": "center"}],
    "OmniAnomaly": [{"window_size": 3, "max_epochs": 1, "n_draws": 2}],
    "SpectralResidual": [{"measure": "relative", "window_size": 30}],
    "MIDAS": [{"n_rows": 3, "n_columns": 16, "tick": 0.1}],
    "MIDASR": [{"decay": 0.0, "n_columns": 100_000}],
    "MatrixProfile": [
        {"window_size": 4, "channels": "joint", "n_largest": 1, "align": "end"},
        {"window_size": 3, "n_neighbors": 2, "align": "max", "stride": 2},
    ],
    "ConformalDetector": [{"method": "cross", "n_splits": 2}],
    "QuantileThreshold": [{"cv": 2}],
    "ProbabilityCalibrator": [{"detector": skad.ECOD(), "method": "gamma"}],
    "ALOCC": [{"measure": "reconstruction"}],
    "AAE": [{"measure": "likelihood"}],
    "FeatureBagging": [
        {"detector": skad.Mahalanobis(), "combination": "cumulative"},
        {"detector": skad.ECOD(), "combination": "maximum", "n_jobs": 2},
    ],
    "ScoreEnsemble": [
        {"combination": "maximum"},
        {"combination": "rank", "weights": [2, 1]},
        {"combination": "lscp", "n_subspaces": 3},
    ],
    "DeepSVDD": [{"objective": "soft-boundary", "n_warm_up_epochs": 2}],
    "ALAD": [{"measure": "l2", "spectral_norm": False}],
    "COPOD": [{"aggregation": "sample"}],
    "EGBAD": [{"discrimination": "cross_entropy"}],
    "ECOD": [{"aggregation": "sample"}],
    "HBOS": [{"n_bins": "auto"}, {"binning": "dynamic"}],
    "GMM": [
        {"n_components": 2, "covariance_type": "tied", "random_state": 0},
        {"covariance_type": "diag"},
        {"covariance_type": "spherical"},
    ],
    "KDE": [{"kernel": "exponential", "bandwidth": "scott"}],
    "IsolationForest": [
        {"bootstrap": True, "random_state": 0},
        {"max_features": 0.5, "random_state": 0},
    ],
    "KNN": [
        {"method": "mean", "algorithm": "brute"},
        {"method": "median", "metric": "manhattan"},
        {"method": "weighted", "metric": "cosine"},
        {"metric": "sqeuclidean", "algorithm": "brute"},
    ],
    "LOF": [{"algorithm": "brute"}],
    "KernelPCAReconstruction": [
        {"kernel": "linear"},
        {"kernel": "poly", "degree": 2, "gamma": "auto"},
        {"kernel": "sigmoid", "gamma": 1e-4},
        {"max_samples": 15, "random_state": 0},
    ],
    "Mahalanobis": [
        {"covariance": "ledoit_wolf"},
        {"covariance": "oas"},
        {"covariance": "mcd", "random_state": 0},
    ],
    "MatrixSketch": [
        {"n_components": 1, "measure": "projection", "sketch_size": 3},
    ],
    "PatchCore": [{"smoothing": 0, "n_neighbors": None, "neighborhood": 1}],
    "PatchDetector": [
        {"detector": skad.KNN(), "positions": "features"},
        {"positions": "each", "pooling": "top"},
    ],
    "OneClassSVM": [
        {"kernel": laplacian_kernel},
        {"solver": "nystroem", "n_basis": 20, "random_state": 0},
        {"solver": "fourier", "n_basis": 30, "random_state": 0},
    ],
    "RaPP": [{"measure": "sap"}],
    "VAE": [{"measure": "iwae", "variance": "shared"}],
    "PCAReconstruction": [
        {"measure": "reconstruction"},
        {"measure": "hotelling", "n_components": 0.95},
        {"n_components": None, "standardize": True},
    ],
    "SVDD": [
        {"kernel": "linear"},
        {"kernel": "poly", "degree": 2, "coef0": 1.0, "gamma": "auto"},
        {"kernel": laplacian_kernel},
    ],
}

# Classes whose own `fit` needs class labels, whatever the classifier: the contract has
# them label their rows themselves, other tests that call fit(X) alone leave them out.
OWN_LABELS = {
    "GeneralizedODIN": "it trains a classifier",
    "OutlierExposure": "it trains a classifier",
    "TemperatureScaling": "labels are what its temperature is fitted to",
}

# check_estimator's expected failures by class name: {check: reason}. Only what cannot
# hold by the nature of a method belongs here.
_NO_LABELS = "calls fit(X) alone, and the classifier cannot be fitted without labels"
EXPECTED_FAILURES = {
    name: dict.fromkeys(
        ["check_outliers_fit_predict", "check_outliers_train"], _NO_LABELS
    )
    for name in [*NEEDS_LABELS, *OWN_LABELS]
}

# The same for any detector of series whose windows have more than one step.
_NEIGHBOURS = "a time step's score depends on the steps around it"
OVER_WINDOWS = dict.fromkeys(
    ["check_methods_subset_invariance", "check_methods_sample_order_invariance"],
    _NEIGHBOURS,
)

# Settings whose sign cannot be relied on far from the training data, with the reason.
NO_SIGN = {
    ("FastFlow", None): "it normalises the maps of each picture, contrast and all",
    ("ALOCC", "refined"): "its discriminator never sees anything far from normal rows",
    ("SimpleNet", None): "its discriminator sees nothing far from normal patches",
    ("LeftMatrixProfile", None): "it compares shapes, and random rows have none",
    ("SpectralResidual", "relative"): "a series of large steps alone is at its mean",
    ("MIDAS", None): "it counts edges, and the rows of a table come once",
    ("MIDASR", None): "it counts edges, and the rows of a table come once",
    ("MatrixProfile", None): "it compares shapes, and rows in random order have none",
    ("ODIN", None): "a linear classifier is surer the farther away an input is",
    ("GeneralizedODIN", None): "its small network is surer the farther away one is",
    ("OutlierExposure", "max_softmax"): "it was shown no outlier to be unsure of",
}

# Classes for which no feature can be far out by itself, with the reason.
NO_FEATURE = {
    "ODIN": "a linear classifier is surer the farther away an input is",
    "GeneralizedODIN": "its small network is surer the farther away an input is",
    "OutlierExposure": "it was shown no outlier to be unsure of",
    "LeftMatrixProfile": "a constant has been seen after its first steps",
    "SpectralResidual": "in a channel that is constant no step stands out",
    "MIDAS": "it counts, and far out is as good a name as any",
    "MIDASR": "it counts, and far out is as good a name as any",
}

# Classes that do not take tensors, with the reason.
NO_TENSORS = {}


def looks_around(detector):
    """Tell whether a row's score depends on the rows around it."""
    if type(detector).__name__ in ("MIDAS", "MIDASR"):
        return True  # on the edges before it
    return getattr(detector, "window_size", 1) != 1


def default_instances():
    """Return one instance of every public detector that fit(X) is enough for."""
    return [
        detector(**CHEAP.get(name, {}))
        for name, detector in skad.all_detectors()
        if name not in OWN_LABELS
    ]


def instances():
    """Return every public detector in every setting that the common tests cover."""
    found = default_instances()
    for name, detector in skad.all_detectors():
        for setting in VARIANTS.get(name, []):
            found.append(detector(**{**CHEAP.get(name, {}), **setting}))
    return found


def self_labelling_instances():
    """Return those of OWN_LABELS so that fit(X) is enough for them too."""
    from tests import _labelled

    found = [getattr(_labelled, name)(**CHEAP.get(name, {})) for name in OWN_LABELS]
    for detector in found:
        if "classifier" in detector.get_params(deep=False):
            detector.set_params(classifier=bumps())
    return found


def labelled_instances():
    """Return those that need labels with the classifier that is their default."""
    found = []
    for name in [*NEEDS_LABELS, *OWN_LABELS]:
        settings = {k: v for k, v in CHEAP.get(name, {}).items() if k != "classifier"}
        found.append(getattr(skad, name)(**settings))
    return found


def brief(detectors):
    """Return copies whose networks hardly train, for what does not need them to.

    That is everything but how well they detect; two epochs still have a next one.
    """
    lengths = {"max_epochs": 2, "pretrain_epochs": 1, "n_search_steps": 2}
    return [
        clone(detector).set_params(
            **{
                name: length
                for name, length in lengths.items()
                if name in detector.get_params(deep=False)
            }
        )
        for detector in detectors
    ]


def identify(detector):
    """Return a test id: the class and the parameters that differ from its defaults."""
    import re

    # without addresses, which differ between the processes of a parallel run
    return re.sub(r"\s+|at0x[0-9a-f]+|at 0x[0-9a-f]+", "", repr(detector))


def seeded(detector):
    """Return a clone that draws the same in every fit: every random_state is 0."""
    names = [n for n in detector.get_params() if n.split("__")[-1] == "random_state"]
    return clone(detector).set_params(**dict.fromkeys(names, 0))
