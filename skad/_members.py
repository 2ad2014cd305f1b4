"""Detectors that are held by another one: copies with seeds, scores, maps."""

from sklearn.base import clone

from skad.base import BaseDetector


def seeded_clone(detector, random):
    """Return an unfitted copy with every `random_state`, nested ones too, drawn."""
    detector = clone(detector)
    names = [
        name
        for name in sorted(detector.get_params())
        if name.split("__")[-1] == "random_state"
    ]
    return detector.set_params(**{name: random.randint(2**31 - 1) for name in names})


def anomaly_of(member, X):
    """Return the anomaly (n,) of rows that need no second validation."""
    if isinstance(member, BaseDetector):
        return member._in_blocks(member._anomaly, X)
    return -member.score_samples(X)


def map_of(member, X):
    """Return the map (n, d) of rows that need no second validation."""
    if isinstance(member, BaseDetector):
        return member._in_blocks(member._map, X, dtype=X.dtype)
    return member.transform(X)
