"""Around a classifier."""

from tests._classifiers import linear
from tests.settings import Settings

FARTHER = "a linear classifier is surer the farther away an input is"
SMALL_FARTHER = "its small network is surer the farther away an input is"
UNSEEN = "it was shown no outlier to be unsure of"
TRAINED = "it trains a classifier"
BRIEF = {"max_epochs": 2, "hidden_sizes": (16,)}
TWICE = {**BRIEF, "pretrain_epochs": 1}


def trained(cheap, unseen=False):
    """Return the settings of a classifier that is trained here."""
    why = UNSEEN if unseen else SMALL_FARTHER
    return Settings(cheap, own_labels=TRAINED, excused={"sign": why, "feature": why})


ACET = trained({**BRIEF, "n_steps": 1})
BoundaryGZSL = trained({**BRIEF, "hidden_size": 8, "latent_size": 4})
ConfidentClassifier = trained({**BRIEF, "latent_size": 4})
DirichletPrior = trained(BRIEF, unseen=True)
EDL = trained(BRIEF)
GOOD = trained(BRIEF, unseen=True)
HierarchicalNovelty = trained(BRIEF)
LearnedConfidence = trained(BRIEF)
LogitNorm = trained(BRIEF)
MetricLearningAD = trained(BRIEF)
OECC = trained(TWICE, unseen=True)
SoftLabeling = trained(BRIEF)
SemanticLabels = trained({**BRIEF, "embedding_size": 4})
VOS = trained({**TWICE, "latent_size": 8, "queue_size": 20, "n_draws": 50})

GeneralizedODIN = Settings(
    {**BRIEF, "latent_size": 8, "epsilon": (0.0, 0.01)},
    own_labels=TRAINED,
    excused={"sign": SMALL_FARTHER, "feature": SMALL_FARTHER},
)
KNNOOD = Settings({"n_neighbors": 5})
OODDetector = Settings(variants=[{"per_class": True, "classifier": linear()}])
MahalanobisOOD = Settings(variants=[{"normalize": True}])
NECO = Settings(
    variants=[{"weighted": False, "n_components": 1}],
    excused={("sign", "n_components=1"): "of a row far out it says where it points"},
)
# gradients have to reach the input
ODIN = Settings(classifier=linear, excused={"sign": FARTHER, "feature": FARTHER})
OutlierExposure = Settings(
    BRIEF,
    own_labels=TRAINED,
    excused={("sign", "max_softmax"): UNSEEN, "feature": UNSEEN},
)
RelativeMahalanobis = Settings(classifier=linear)
TemperatureScaling = Settings(
    own_labels="labels are what its temperature is fitted to",
)
ViM = Settings(classifier=linear)
