"""Which defaults: candidates on series that no quality is reported on.

    OMP_NUM_THREADS=1 python benchmarks/bench_series_defaults.py --detectors OmniAnomaly

Five series are drawn, the sunspots come with statsmodels. Stretches of the second half
of each are faster, backwards, still, noisy, moved, turned over or a spike; detectors
learn from the first half. Writes ``benchmarks/results/defaults_<detector>.tsv``: the
mean ROC AUC of steps, and that of each series; the first row is that of the norm of the
standardized step. OmniAnomaly is small, for the time it takes.

RegressionForecaster has series of its own, two draws of six families for each kind of
change, standardized by the first half. Beside the area stands the share of changes that
are found: in which a step has a score that one in fifty of the normal steps has. Scores
that are a mean of the last ones, of some half-life, have larger areas and find less.
"""

import argparse
import collections
import pathlib
import time
import warnings

import numpy as np
import statsmodels.api as sm
from _measure import Table
from scipy.signal import lfilter
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

import skad

FIRST = {"alpha": 1.0, "beta": 0.0}
SMALL = {"hidden_size": 16, "window_size": 20, "stride": 4}
CANDIDATES = {
    "USAD": [
        {**FIRST, "window_size": 50, "max_epochs": 1, "lr": 1e-12},
        {**FIRST, "window_size": 50, "max_epochs": 10},
        {**FIRST, "window_size": 24, "max_epochs": 10},
        {**FIRST, "window_size": 24, "max_epochs": 30},
        {**FIRST, "window_size": 50, "max_epochs": 30},
    ],
    "OmniAnomaly": [
        {**SMALL, "max_epochs": 1, "lr": 1e-12},
        {**SMALL, "max_epochs": 10},
        {**SMALL, "max_epochs": 50, "lr": 3e-3},
        {**SMALL, "max_epochs": 150},
    ],
}
FORECASTERS = {
    "RegressionForecaster": [
        {},
        *[{"window_size": size} for size in (5, 12, 25, 100)],
        *[{"horizon": k} for k in (3, 10)],
        *[{"regressor": Ridge(alpha)} for alpha in (0.01, 10, 100)],
        {"regressor": KNeighborsRegressor()},
        {"regressor": ExtraTreesRegressor(30, min_samples_leaf=3, random_state=0)},
    ]
}
FAMILIES = "seasonal autoregressive walk square trend channels".split()
KINDS = "fast back still noise shift spike flip".split()


def plant(X, rng, length, gap, kinds=KINDS):
    """Change stretches of the second half of X (t, c); return which steps are."""
    y, deviations = np.zeros(len(X), int), X.std(0)
    starts = range(len(X) // 2 + gap // 2, len(X) - 2 * length, gap)
    for i, start in enumerate(starts):
        place, c = X[start : start + length], rng.integers(X.shape[1])
        kind, size = kinds[i % len(kinds)], deviations[c]
        if kind == "fast":
            steps = start + 2 * np.arange(length)
            place[:, c] = X[np.clip(steps, 0, len(X) - 1), c].copy()
        elif kind == "back":
            place[:, c] = place[::-1, c].copy()
        elif kind == "still":
            place[:, c] = place[0, c]
        elif kind == "noise":
            place[:, c] += rng.normal(0, 0.6 * size, length)
        elif kind == "shift":
            place[:, c] += rng.choice([-1, 1]) * 1.2 * size
        elif kind == "spike":
            middle = length // 2
            place[middle : middle + 2, c] += rng.choice([-1, 1]) * 4 * size
        else:
            place[:, c] = 2 * X[:, c].mean() - place[:, c]
        y[start : start + length] = 1
    return y


def series():
    """Return {name: (X, y)}, X of shape (t, c) and y 1 where something was planted."""
    found = {}
    for seed, n, period, n_channels in (
        (10, 2400, 25, 1),
        (11, 2400, 50, 3),
        (13, 2400, 12, 5),
    ):
        rng, t = np.random.default_rng(seed), np.arange(n)
        turn = 2 * np.pi * t / period
        X = np.stack(
            [
                np.sin(turn + k) + 0.5 * np.sin(2 * turn * (1 + k) + 2 * k)
                for k in range(n_channels)
            ],
            axis=1,
        )
        y = plant(X, rng, max(20, period // 2), 160)
        found[f"sines of {period} steps"] = X + rng.normal(0, 0.1, X.shape), y
    rng, n = np.random.default_rng(3), 2800
    phase = np.cumsum(1 / rng.normal(40, 1.0, n).clip(20)) % 1
    X = np.exp(-(((phase - 0.3) / 0.03) ** 2))
    X -= 0.3 * np.exp(-(((phase - 0.38) / 0.03) ** 2))
    X += 0.3 * np.exp(-(((phase - 0.65) / 0.08) ** 2))
    X = X[:, None]
    y = plant(X, rng, 40, 170, ["fast", "back", "still", "noise", "flip"])
    found["pulses"] = X + rng.normal(0, 0.03, X.shape), y
    rng, t = np.random.default_rng(5), np.arange(2880)
    X = (1 + np.sin(2 * np.pi * t / 48 - 1.5)) * (1 - 0.4 * (((t // 48) % 7) >= 5))
    X = (X + 0.3 * np.sin(4 * np.pi * t / 48))[:, None]
    y = plant(X, rng, 40, 180, ["shift", "still", "noise", "back", "spike"])
    found["days and weeks"] = X + rng.normal(0, 0.1, X.shape), y
    X = sm.datasets.sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(float)[:, None]
    X, rng = X.copy(), np.random.default_rng(6)
    y = plant(X, rng, 11, 44, ["fast", "back", "still", "noise", "shift"])
    found["sunspots"] = X, y
    return found


def halves(X, y):
    """Return the steps that train, those to score and which of these are anomalous."""
    half = len(X) // 2
    return X[:half], X[half:], y[half:]


def measure(name, sets):
    """Return the table of one detector."""
    table = Table(["settings", "mean_auc", *sets, "s"])
    norms = []
    for train, test, y in sets.values():
        standardized = (test - train.mean(0)) / train.std(0)
        norms.append(roc_auc_score(y, np.linalg.norm(standardized, axis=1)))
    table.add("norm of the step", np.mean(norms), *norms, "")
    for settings in CANDIDATES[name]:
        start, found = time.process_time(), []
        for train, test, y in sets.values():
            detector = getattr(skad, name)(
                random_state=0, contamination=0.1, device="cpu", **settings
            ).fit(train)
            found.append(roc_auc_score(y, -detector.score_samples(test)))
        shown = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        table.add(shown, np.mean(found), *found, time.process_time() - start)
    return table


def drawn(family, seed, kind, n=2400):
    """Return a series of a family with changes of one kind, and where these are."""
    rng, t = np.random.default_rng([FAMILIES.index(family), seed]), np.arange(n)
    period = rng.integers(20, 60)
    turn = 2 * np.pi * t / period
    if family == "seasonal":
        waves = [
            rng.normal() / k * np.sin(k * turn + rng.uniform(0, 6)) for k in (1, 2)
        ]
        X = (sum(waves) / np.std(sum(waves)))[:, None] + 0.1 * rng.normal(size=(n, 1))
    elif family == "autoregressive":
        size, angle = rng.uniform(0.8, 0.97), rng.uniform(0.1, 1)
        poles = [1, -2 * size * np.cos(angle), size**2]
        X = lfilter([1], poles, rng.normal(size=n + 500))[500:, None]
    elif family == "walk":
        X = lfilter([1], [1, -0.995], rng.normal(size=n + 1000))[1000:, None]
    elif family == "square":
        X = (t // (period // 2) % 2 + 0.1 * rng.normal(size=n))[:, None]
    elif family == "trend":
        X = (2 * t / n + np.sin(turn) + 0.2 * rng.normal(size=n))[:, None]
    else:
        hidden = [np.sin(turn), lfilter([1], [1, -0.95], 0.3 * rng.normal(size=n))]
        X = np.stack(hidden, axis=1) @ rng.normal(size=(2, 4))
        X = (X + 0.15 * rng.normal(size=X.shape)) * [1, 10, 0.1, 1]
    y = plant(X, rng, 2 if kind == "spike" else 25, 130, [kind])
    return X, y


def smoothed(anomaly, half_life):
    """Return the means of the last anomalies, which weigh half after a half-life."""
    if half_life == 0:
        return anomaly
    share = 1 - 0.5 ** (1 / half_life)
    start = [(1 - share) * anomaly[0]]
    return lfilter([share], [1, share - 1], anomaly, zi=start)[0]


def found(y, anomaly):
    """Return the share of changes with a step beyond 49 in 50 of the normal ones."""
    beyond = anomaly > np.quantile(anomaly[y == 0], 0.98)
    starts = np.flatnonzero(np.diff(y, prepend=0) == 1)
    stops = np.flatnonzero(np.diff(y, append=0) == -1) + 1
    return np.mean([beyond[a:b].any() for a, b in zip(starts, stops, strict=True)])


def forecaster(name):
    """Return the table of a detector that forecasts."""
    table = Table(["settings", "mean_auc", "found", *FAMILIES, *KINDS, "s"])
    sets = {
        (family, kind, seed): halves(*drawn(family, seed, kind))
        for family in FAMILIES
        for kind in KINDS
        for seed in range(2)
    }
    for settings in FORECASTERS[name]:
        start, rates = time.process_time(), collections.defaultdict(list)
        for (family, kind, _), (train, test, y) in sets.items():
            scaler = StandardScaler().fit(train)
            detector = getattr(skad, name)(contamination=0.1, **settings)
            detector.fit(scaler.transform(train))
            maps = detector.transform(scaler.transform(test))
            anomaly = maps.sum(axis=1)
            ways = {f"half-life of {h}": smoothed(anomaly, h) for h in (1, 2, 5)}
            ways["absolute errors"] = np.sqrt(maps).sum(axis=1)
            for way, one in {"": anomaly, **(ways if not settings else {})}.items():
                pair = roc_auc_score(y, one), found(y, one)
                for key in ("", family, kind):
                    rates[way, key].append(pair)
        took = time.process_time() - start
        for way in dict.fromkeys(way for way, _ in rates):
            means = {
                key: np.mean(pairs, axis=0)
                for (own, key), pairs in rates.items()
                if own == way
            }
            shown = ", ".join(f"{key}={value!r}" for key, value in settings.items())
            shown = way or shown or "default"
            auc = [means[family][0] for family in FAMILIES]
            each = [means[kind][1] for kind in KINDS]
            table.add(shown, *means[""], *auc, *each, "" if way else took)
    return table


def main():
    """Measure the candidates."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--detectors", nargs="*", default=[*CANDIDATES, *FORECASTERS])
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of networks that rebuild nothing yet
    sets = {name: halves(*data) for name, data in series().items()}
    for name in options.detectors:
        path = f"results/defaults_{name.lower()}.tsv"
        table = forecaster(name) if name in FORECASTERS else measure(name, sets)
        table.write(pathlib.Path(__file__).parent / path)


if __name__ == "__main__":
    main()
