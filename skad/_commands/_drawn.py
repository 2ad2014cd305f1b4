"""Pictures and a series that the demonstration draws, the same in every run."""

import numpy as np
from sklearn.utils import Bunch

_SIDE = 48  # pixels


def drawn_pictures(n_train=12, n_each=4):
    """Return pictures of a weave, some with a hole, a scratch or a stain.

    Parameters
    ----------
    n_train : int, default=12
        Good pictures to learn from.
    n_each : int, default=4
        Pictures of each kind to look at.

    Returns
    -------
    data : Bunch
        `X_train` and `X_test` of shape (n, 48, 48), `y_test`, `defects_test`,
        `masks_test` and `title`.
    """
    random = np.random.default_rng(0)
    kinds = np.repeat(["good", "hole", "scratch", "stain"], n_each)
    X_train = np.stack([_weave(random) for _ in range(n_train)])
    drawn = [_with_defect(_weave(random), kind, random) for kind in kinds]
    X, masks = (np.stack(part) for part in zip(*drawn, strict=True))
    return Bunch(
        X_train=X_train,
        X_test=X,
        y_test=np.where(kinds == "good", 1, -1),
        defects_test=kinds.astype(object),
        masks_test=masks,
        title="A weave, drawn",
    )


def _weave(random):
    row, column = np.mgrid[:_SIDE, :_SIDE] + random.uniform(0, 8, size=(2, 1, 1))
    weave = 0.5 + 0.12 * np.sin(row * np.pi / 4) * np.sin(column * np.pi / 4)
    return np.clip(weave + random.normal(0, 0.02, size=weave.shape), 0, 1)


def _with_defect(picture, kind, random):
    """Return a picture with a defect, and where it is."""
    mask = np.zeros(picture.shape, dtype=bool)
    if kind == "good":
        return picture, mask
    row, column = np.mgrid[:_SIDE, :_SIDE] - random.uniform(14, 34, size=(2, 1, 1))
    angle = random.uniform(0, np.pi)
    along = np.cos(angle) * row + np.sin(angle) * column
    across = np.cos(angle) * column - np.sin(angle) * row
    if kind == "scratch":
        mask = (abs(across) < 1) & (abs(along) < 9)
        return np.where(mask, 0.85, picture), mask
    mask = along**2 / 36 + across**2 / 16 < 1
    if kind == "hole":
        return np.where(mask, 0.1, picture), mask
    return np.where(mask, 0.5 + 0.4 * (picture - 0.5) + 0.1, picture), mask


def drawn_series(n_steps=1500, period=50):
    """Return two channels that repeat, and two stretches in which they do not.

    Parameters
    ----------
    n_steps : int, default=1500
        Steps of the series to learn from, and of that to look at.
    period : int, default=50
        Steps until they repeat.

    Returns
    -------
    data : Bunch
        `X_train` and `X_test` of shape (n, 2), `y_test`, `feature_names` and `title`.
    """
    random = np.random.default_rng(1)
    phase = 2 * np.pi * np.arange(n_steps) / period
    made = []
    for _ in range(2):
        speed = np.sin(phase) + 0.4 * np.sin(2 * phase)
        load = np.cos(phase) + 0.2 * np.cos(3 * phase)
        noise = random.normal(0, 0.05, size=(n_steps, 2))
        made.append(np.stack([speed, load], axis=1) + noise)
    X_train, X_test = made
    y = np.ones(n_steps, dtype=int)
    stuck, fast = slice(500, 530), slice(1040, 1090)
    X_test[stuck, 1] = X_test[stuck.start, 1]  # a sensor sticks
    X_test[fast, 0] = np.sin(2.5 * phase[: fast.stop - fast.start])
    y[stuck] = y[fast] = -1
    return Bunch(
        X_train=X_train,
        X_test=X_test,
        y_test=y,
        feature_names=["speed", "load"],
        title="A machine, drawn",
    )
