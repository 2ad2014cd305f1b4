"""Scores that must not change unnoticed: what is recorded, and how to record it anew.

`python -m tests._recorded HBOS ZScore-0` records all of a class, or one setting of it,
anew in the class's file in `tests/files/scores`. Do so after a change of scores that is
meant, and name it in the changelog. Without names it records what is new.
"""

import pathlib
import sys

import numpy as np
from sklearn.base import clone

import skad
from tests._instances import brief, class_of, instances, seeded, settings_of

FOLDER = pathlib.Path(__file__).parent / "files" / "scores"


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
    for name, _ in skad.all_detectors():
        settings = settings_of(name).pictures
        if settings is not None:
            detector = class_of(name)(**settings)
            yield f"{name}-pictures", prepared(detector), *on_pictures


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


def recorded():
    """Return all that is recorded, {class: {key: scores}}."""
    return {file.stem: dict(np.load(file)) for file in sorted(FOLDER.glob("*.npz"))}


def main(names):
    """Record what is named anew, or what is not recorded yet."""
    known, found = recorded(), {}
    for key, *subject in subjects():
        name = key.rsplit("-", 1)[0]
        before = known.get(name, {}).get(key)
        if before is None or {key, name} & set(names):
            before = record(*subject)
        found.setdefault(name, {})[key] = before
    for name in known.keys() - found.keys():
        (FOLDER / f"{name}.npz").unlink()
        print(f"{name} is gone: its scores are removed")
    for name, scores in found.items():
        for key in known.get(name, {}).keys() - scores.keys():
            print(f"{key} is gone: its scores are removed")
        if not same(scores, known.get(name, {})):
            np.savez_compressed(FOLDER / f"{name}.npz", **scores)


def same(one, other):
    """Tell whether two records hold the same numbers under the same keys."""
    return one.keys() == other.keys() and all(
        np.array_equal(one[key], other[key], equal_nan=True) for key in one
    )


if __name__ == "__main__":
    main(sys.argv[1:])
