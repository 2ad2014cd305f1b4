"""Scores that must not change unnoticed: what is recorded, and how to record it anew.

`python -m tests._recorded HBOS ZScore-0` records all of a class, or one setting of it,
anew in `tests/files/scores.npz` and keeps the others. Do so after a change of scores
that is meant, and name it in the changelog.
"""

import pathlib
import sys

import numpy as np
from sklearn.base import clone

import skad
from tests._instances import brief, instances, seeded

FILE = pathlib.Path(__file__).parent / "files" / "scores.npz"

# Pictures of few pixels, on networks of few steps.
ON_PICTURES = {
    "AnomalyDINO": {},
    "CFA": {"max_epochs": 2},
    "CFLOW": {"max_epochs": 1, "n_steps": 1, "condition_size": 4},
    "DFM": {},
    "DFR": {"max_epochs": 2},
    "EfficientAD": {
        "channels": 8,
        "width": 4,
        "latent_size": 4,
        "teacher_epochs": 1,
        "max_epochs": 1,
        "batch_size": 2,
    },
    "FAPM": {"coreset_ratio": 0.5},
    "FRE": {"n_components": 3},
    "FastFlow": {"max_epochs": 2, "n_steps": 2},
    "GaussianAD": {},
    "InReaCh": {"coreset_ratio": 0.2},
    "PaDiM": {"n_features": 8},
    "PatchCore": {"coreset_ratio": 0.2},
    "PatchDetector": {},
    "ReverseDistillation": {"max_epochs": 1},
    "SPADE": {"n_pictures": 3},
    "STFPM": {"max_epochs": 1},
    "SimpleNet": {"max_epochs": 2},
    "SoftPatch": {"coreset_ratio": 0.2},
}


def rows():
    """Return training rows and test rows of six features, half of them anomalies."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6))
    train = rng.normal(size=(120, 6)) @ mixing
    normal = rng.normal(size=(8, 6)) @ mixing
    far = 4 * rng.normal(size=(8, 6)) + rng.choice([-8, 8], size=(8, 6))
    return train, np.concatenate([normal, far])


def pictures():
    """Return training and test pictures, half of these with a spot."""
    rng = np.random.default_rng(1)
    train = rng.normal(0.5, 0.05, size=(6, 24, 24))
    test = rng.normal(0.5, 0.05, size=(4, 24, 24))
    test[2:, 8:14, 10:16] += 0.3
    return train, test


def subjects():
    """Yield (key, unfitted detector, training data, test data)."""
    counts = {}
    on_rows = rows()
    for detector in brief(instances()):
        name = type(detector).__name__
        i = counts[name] = counts.get(name, -1) + 1
        yield f"{name}-{i}", prepared(detector), *on_rows
    on_pictures = pictures()
    for name, settings in ON_PICTURES.items():
        yield (
            f"{name}-pictures",
            prepared(getattr(skad, name)(**settings)),
            *on_pictures,
        )


def prepared(detector):
    """Return a seeded clone whose threshold is the quantile of its training scores."""
    detector = seeded(detector)
    if isinstance(detector, skad.ProbabilityCalibrator | skad.ThresholdTuner):
        held = detector.detector or skad.Mahalanobis()
        detector.set_params(detector=held)
    names = [n for n in detector.get_params() if n.split("__")[-1] == "contamination"]
    return detector.set_params(**dict.fromkeys(names, 0.1))


def record(detector, train, test):
    """Return the scores of test data, the largest value of each map, the threshold."""
    fitted = clone(detector).fit(train)
    largest = np.asarray(fitted.transform(test)).reshape(len(test), -1).max(1)
    return np.concatenate(
        [fitted.score_samples(test), largest, [fitted.offset_]]
    ).astype(np.float64)


def main(names):
    """Record what is named anew, or what is not recorded yet."""
    recorded = dict(np.load(FILE))
    found = {
        key: record(*subject)
        if key not in recorded or {key, key.rsplit("-", 1)[0]} & set(names)
        else recorded[key]
        for key, *subject in subjects()
    }
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    main(sys.argv[1:])
