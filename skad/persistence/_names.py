"""Which classes and functions a file may name, and how they are found.

Nothing that is found here runs anything when it is made from a file: attributes are
set, no constructor is called.
"""

import re
from importlib import import_module

from sklearn.base import BaseEstimator

# Estimators of scikit-learn that detectors hold, and those whose prediction is plain
# NumPy, which cannot crash whatever a file says.
SKLEARN = {
    "sklearn.cluster.KMeans",
    "sklearn.decomposition.PCA",
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
    "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis",
    "sklearn.ensemble.IsolationForest",
    "sklearn.frozen.FrozenEstimator",
    "sklearn.linear_model.BayesianRidge",
    "sklearn.linear_model.LinearRegression",
    "sklearn.linear_model.LogisticRegression",
    "sklearn.linear_model.LogisticRegressionCV",
    "sklearn.linear_model.Ridge",
    "sklearn.linear_model.RidgeClassifier",
    "sklearn.linear_model.SGDClassifier",
    "sklearn.mixture.GaussianMixture",
    "sklearn.multioutput.MultiOutputRegressor",
    "sklearn.naive_bayes.GaussianNB",
    "sklearn.neighbors.NearestNeighbors",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing.LabelBinarizer",
    "sklearn.preprocessing.LabelEncoder",
    "sklearn.preprocessing.MaxAbsScaler",
    "sklearn.preprocessing.MinMaxScaler",
    "sklearn.preprocessing.RobustScaler",
    "sklearn.preprocessing.StandardScaler",
    "sklearn.svm.LinearSVC",
    "sklearn.tree.ExtraTreeRegressor",
}

# Where parts stood in version 0.1, whose files name them there.
MOVED_PARTS = {
    f"skad.embedding._classifier_tails.{name}": f"skad.embedding.{room}.{name}"
    for name, room in [
        ("NoTail", "_estimator_tails"),
        ("_BlackBoxTail", "_estimator_tails"),
        ("_ChainTail", "_estimator_tails"),
        ("ModuleTail", "_module_tail"),
    ]
} | {
    "skad.ensemble._isolation_forest.Nodes": "skad.ensemble._nodes.Nodes",
    "skad.one_class._deep_svdd.DeepSVDDNetwork": "skad.nn.hypersphere.BoundaryNetwork",
}

# Parts of fitted detectors that are neither estimators nor modules.
PARTS = {
    *MOVED_PARTS,
    "skad.embedding._classifier.ClassifierView",
    "skad.embedding._estimator_tails.NoTail",
    "skad.embedding._estimator_tails._BlackBoxTail",
    "skad.embedding._estimator_tails._ChainTail",
    "skad.embedding._module_tail.ModuleTail",
    "skad.ensemble._nodes.Nodes",
    "skad.ensemble._local_competence.LocalCompetence",
    "skad.neighbors._apart.Apart",
    "skad.neighbors._search.NeighborSearch",
    "skad.neighbors._sparse_search.SparseSearch",
    "skad.one_class._kernels.Kernel",
    "skad.ood._gaussian.TiedGaussian",
    "skad.series._edges.EdgeCounts",
    "skad.stream._counts.Window",
    "skad.stream._cut_forest.CutForest",
}

# Where private files were in version 0.1: files name the networks in them.
MOVED = {
    "skad.image._cflow": "skad.image.density._cflow",
    "skad.image._dfr": "skad.image.restoration._dfr",
    "skad.image._fastflow": "skad.image.density._fastflow",
    "skad.image._reverse_distillation": "skad.image.student._reverse_distillation",
    "skad.image._simplenet": "skad.image.discriminative._simplenet",
    "skad.image._stfpm": "skad.image.student._stfpm",
}

# Parts of older files that fitted detectors no longer have: read, and left out.
GONE = {"skad.embedding._patches.Copies"}

_KERNELS = "additive_chi2 chi2 laplacian linear polynomial rbf sigmoid"
FUNCTIONS = {
    *(f"sklearn.metrics.pairwise.{name}_kernel" for name in _KERNELS.split()),
    "sklearn.metrics.pairwise.cosine_similarity",
}

_NAME = re.compile(r"(skad|sklearn|torch)(\.[A-Za-z_][A-Za-z_0-9]*)+", re.ASCII)


class Gone:
    """What a file holds of a part in `GONE`."""


def name_of(member, trusted=()):
    """Return the name under which a class or function may stand in a file, or None."""
    if any(member is each for each in trusted):
        return f"{member.__module__}.{member.__qualname__}"
    qualname = getattr(member, "__qualname__", "")
    module = getattr(member, "__module__", None) or ""
    public = ".".join([*module.split(".")[:2], qualname])
    # public names outlive a move between private files
    for name in (public, f"{module}.{qualname}"):
        try:
            if find(name) is member:
                return name
        except (ValueError, ImportError):
            continue
    return None


def find(name, trusted=()):
    """Return the class or function that a file names; ValueError if it may not."""
    for each in trusted:
        if f"{each.__module__}.{each.__qualname__}" == name:
            return each
    if not _NAME.fullmatch(name) or "__" in name:
        raise ValueError(f"{name} is no part of skad, and is not trusted")
    if name in GONE:
        return Gone
    name = MOVED_PARTS.get(name, name)
    module, _, last = name.rpartition(".")
    module = MOVED.get(module, module)
    if name in SKLEARN | FUNCTIONS:
        return getattr(import_module(module), last)
    root = name.split(".")[0]
    known = (
        root == "skad"
        or module in ("torch.nn", "torch.optim")
        or module.startswith("torch.nn.modules.")
    )
    if not known:
        raise ValueError(f"{name} is not among what a file may name")
    found = getattr(import_module(module), last, None)
    if not isinstance(found, type) or not _allowed(found, name):
        raise ValueError(f"{name} is not among what a file may name")
    return found


def _allowed(found, name):
    where = found.__module__
    if name in PARTS:
        return True
    if where.startswith("skad.") and issubclass(found, BaseEstimator):
        return True
    if not where.startswith(("skad.", "torch.")):
        return False
    import torch

    if name.startswith("torch.optim."):
        return issubclass(found, torch.optim.Optimizer)
    own = where.startswith(("skad.", "torch.nn.modules."))
    return own and issubclass(found, torch.nn.Module)
