"""Few labels: known anomalies among other rows."""

import numpy as np

from tests.settings import Settings


def known_anomalies(X):
    """Return -1 for the tenth of the rows farthest from the median, at least two."""
    away = np.abs(X - np.median(X, axis=0)).sum(axis=1)
    labels = np.zeros(len(X), dtype=int)
    labels[np.argsort(-away, kind="stable")[: max(2, len(X) // 10)]] = -1
    return labels


WHY = "known anomalies are what it learns from"
SIGN = "it learns which side known anomalies are on, and others may be on the other"


def small(**cheap):
    """Return the settings of a class that is trained for few steps."""
    return Settings(
        {"max_epochs": 5, "hidden_sizes": (16,), **cheap},
        own_labels=WHY,
        labels=known_anomalies,
        excused={"sign": SIGN, "feature": SIGN},
    )


DevNet = small()
FeaWAD = small(pretrain_epochs=2, scorer_sizes=(16, 8), latent_size=4)
MixedSupervision = Settings(
    {"max_epochs": 3, "channels": (2, 2, 2, 4), "batch_size": 128},
    own_labels=WHY,
    labels=known_anomalies,
    excused={"sign": SIGN, "feature": SIGN},
)
PReNet = small()
RoSAS = small(code_size=16)
