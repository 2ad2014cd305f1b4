"""Thresholds: the share of fresh normal samples that each detector flags by default.

    OMP_NUM_THREADS=1 python benchmarks/bench_thresholds.py rows
    OMP_NUM_THREADS=1 python benchmarks/bench_thresholds.py edges
    OMP_NUM_THREADS=1 python benchmarks/bench_thresholds.py tables pictures series \\
        --data ../shared/data

`rows`: trained on n = 100 and n = 1,000 rows of a Gaussian with ten correlated
features, asked about 2,000 fresh ones; mean, least and largest of five draws. Detectors
around a classifier have a network of scikit-learn's that tells two halves of the rows
apart; those that learn from known anomalies have a twentieth of the rows, and five at
least, three times as far out.
`edges`: trained on n edges of 50 nodes, some busier than others, about 20 a tick, asked
about the 2,000 that come next; mean, least and largest of five draws.
`tables`: trained on half of the normal rows, at most 500, of ten ODDS tables, two
draws of each, standardised; asked about at most 1,000 others. Mean, least and largest
are those of the tables; detectors that train a network are left out.
`pictures`: the cookies at 128 x 128, or fewer pixels where that takes hours; detectors
that learn from known anomalies have five cracked ones besides, those that learn from
other things magnetic tiles, whole and broken ones. `series`: the normal steps of
electrocardiograms (UCR 135, ECG 805), taxi rides (NAB), a server (SMD) and a satellite
(telemanom) behind their training parts, 200 steps around anomalies left out.
Both have the ROC AUC beside, and that of a score without any model.

All with the default threshold, which is for 5 %. Networks have fewer epochs than their
defaults where `settings` says so. Parts are merged into
``benchmarks/results/thresholds.tsv``, by detector and data.
"""

import argparse
import json
import pathlib
import time
import warnings

import numpy as np
from _measure import Table
from _picture_rows import PAIRS
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

import skad
from skad._commands._build import kind_of_data
from skad._fit_parameters import ReferenceMixin
from skad.series._edges import EdgeDetector

COLUMNS = (
    "data detector settings n_train draws flagged least largest roc_auc fit_s".split()
)
TABLES = "ten tables"
MERGED = "put together from several runs, while other work ran: the last one's command"
EPOCHS = {"rows": 10, "tables": 10, "pictures": 3, "series": 3}
# More that takes long by default, by name of the parameter.
SHORT = {
    "pretrain_epochs": 5,
    "teacher_epochs": 20,
    "general_epochs": 3,
    "n_search_steps": 20,
    "hidden_size": 100,
}
# What takes minutes an epoch otherwise.
OWN = {"HTDG": {"transformations": "turns", "n_scales": 2, "channels": 8}}


def detectors(part, options):
    """Yield (name, detector, settings as text) of those that look at such data."""
    only, epochs = options.only, options.epochs or EPOCHS[part]
    kinds = {"rows": ("tables", "a classifier"), "tables": ("tables",)}
    kinds = kinds.get(part, (part,))
    for name, cls in skad.all_detectors():
        if kind_of_data(cls) not in kinds or (only and name not in only):
            continue
        if name in PAIRS:  # of which there are none
            continue
        model = cls()
        if kind_of_data(cls) == "a classifier" and "classifier" in model.get_params():
            model.set_params(
                classifier=MLPClassifier((32,), max_iter=60, random_state=0)
            )
        known = model.get_params(deep=False)
        short = {"max_epochs": epochs, **SHORT}
        short = {
            key: value
            for key, value in short.items()
            if isinstance(known.get(key), int) and known[key] > value
        }
        short |= OWN.get(name, {})
        model.set_params(**short)
        text = ", ".join(f"{key}={value}" for key, value in short.items())
        yield name, model, text


def measured(model, draws):
    """Return the columns from `draws` on, of (X, y, normal, abnormal) each."""
    flagged, areas, took, n = [], [], [], 0
    for seed, (X, y, normal, abnormal) in enumerate(draws):
        if "random_state" in model.get_params(deep=False):
            model.set_params(random_state=seed)
        start = time.process_time()  # other work may run beside
        model.fit(X, y)
        took.append(time.process_time() - start)
        n = len(X)
        decision = model.decision_function(normal)
        flagged.append(float(np.mean(decision[np.isfinite(decision)] < 0)))
        if abnormal is not None:
            other = model.decision_function(abnormal)
            y_true = np.repeat([0, 1], [len(decision), len(other)])
            areas.append(roc_auc_score(y_true, -np.concatenate([decision, other])))
    return (
        n,
        len(flagged),
        float(np.mean(flagged)),
        min(flagged),
        max(flagged),
        float(np.mean(areas)) if areas else "",
        float(np.median(took)),
    )


def row_draws(n, classes, anomalies=False):
    """Yield draws of n rows in ten features, and 2,000 fresh ones."""
    mixing = np.random.default_rng(1).normal(size=(10, 10))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X, new = (rng.normal(size=(m, 10)) @ mixing for m in (n, 2000))
        y = (X[:, 0] > 0).astype(int) if classes else None
        if anomalies:
            known = 3 * rng.normal(size=(max(5, n // 20), 10)) @ mixing
            X, y = np.concatenate([X, known]), np.repeat([1, -1], [n, len(known)])
        yield X, y, new, None


def rows(options, table):
    """Rows in ten features."""
    for name, model, settings in detectors("rows", options):
        classes = kind_of_data(type(model)) == "a classifier"
        for n in options.n:
            anomalies = get_tags(model).target_tags.required and not classes
            draws = list(row_draws(n, classes, anomalies))[: options.draws]
            add(table, f"n = {n:,}", name, settings, model, draws)


def edge_draws(n):
    """Yield draws of n edges, source, destination and tick, and the next 2,000."""
    busy = np.random.default_rng(1).dirichlet(np.ones(50), size=2)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        ends = [rng.choice(50, size=n + 2000, p=share) for share in busy]
        ticks = np.sort(rng.integers((n + 2000) // 20, size=n + 2000))
        edges = np.stack([*ends, ticks], axis=1)
        yield edges[:n], None, edges[n:], None


def edges(options, table):
    """Edges of a graph that changes nothing but by chance."""
    for name, model, settings in detectors("series", options):
        if not isinstance(model, EdgeDetector):
            continue
        for n in options.n:
            draws = list(edge_draws(n))[: options.draws]
            add(table, f"n = {n:,} edges", name, settings, model, draws)


def tables(options, table):
    """Normal rows of real tables."""
    draws = []
    for path in sorted((pathlib.Path(options.data) / "tabular").glob("*.npz")):
        data = np.load(path)
        normal = np.float64(data["X"][data["y"].ravel() == 0])
        own = []
        for seed in range(2):
            order = np.random.default_rng(seed).permutation(len(normal))
            n = min(500, len(normal) // 2)
            X, new = normal[order[:n]], normal[order[n : n + 1000]]
            scaler = StandardScaler().fit(X)
            own.append((scaler.transform(X), None, scaler.transform(new), None))
        draws.append(own)
    for name, model, settings in detectors("tables", options):
        if "max_epochs" in model.get_params(deep=False):
            continue
        found = [row for own in draws if (row := tried(name, model, own))]
        if found:
            n_train, n_draws, shares, *_, took = zip(*found, strict=True)
            shares = float(np.mean(shares)), min(shares), max(shares)
            n_train = int(np.median(n_train)), sum(n_draws)
            took = float(np.median(took))
            table.add(TABLES, name, settings, *n_train, *shares, "", took)


def pictures(options, table):
    """Cookies, cracked ones among them."""
    from skad.image import load_folder

    folder = pathlib.Path(options.data) / "images" / "cookie"
    data = load_folder(folder, size=(options.size, options.size))
    good = np.asarray(data.y_test) == 1
    X, test = np.asarray(data.X_train[:]), np.asarray(data.X_test[:])
    cookies = "cookies" if options.size == 128 else f"cookies, {options.size} pixels"
    distance = np.abs(test / 255.0 - (X / 255.0).mean(axis=0)).mean(axis=(1, 2, 3))
    baseline(table, cookies, "distance to the mean", ~good, distance)
    for name, model, settings in detectors("pictures", options):
        train, y, abnormal = X, None, test[~good]
        if get_tags(model).target_tags.required:
            train, abnormal = np.concatenate([X, abnormal[:5]]), abnormal[5:]
            y = np.repeat([1, -1], [len(X), 5])
        elif isinstance(model, ReferenceMixin):
            tiles = load_folder(
                folder.with_name("magnetic_tile"), size=(options.size,) * 2
            )
            grey = np.concatenate([tiles.X_train[:], tiles.X_test[:]])
            train = np.concatenate(
                [X, np.broadcast_to(grey, (len(grey), *X.shape[1:]))]
            )
            whole = np.asarray(tiles.y_test) == 1
            classes = np.repeat([1, -1], [len(X), len(tiles.X_train)])
            y = np.concatenate([classes, np.where(whole, -1, -2)])
        add(table, cookies, name, settings, model, [(train, y, test[good], abnormal)])


def ucr(folder):
    """Return an electrocardiogram: its training part, what follows, and its label."""
    [path] = (folder / "ucr").glob("135_*.txt")
    x = np.array(path.read_text().split(), dtype=float)[:, None]
    begin, start, stop = map(int, path.stem.split("_")[-3:])
    label = np.zeros(len(x), dtype=bool)
    label[start:stop] = True
    return x[:begin], x[begin:], label[begin:]


def ecg(folder):
    """Return another one, from its beginning, which is without anomaly."""
    values = np.loadtxt(folder / "ecg" / "MBA_ECG805_data.out.gz", delimiter=",")
    x, label = values[:, :1], values[:, 1] > 0
    return x[:1100], x[1100:12_000], label[1100:12_000]


def nab(folder):
    """Return taxi rides of half hours, seven weeks of them to train on."""
    name = "realKnownCause/nyc_taxi.csv"
    lines = (folder / "nab" / name).read_text().splitlines()[1:]
    times, values = zip(*(line.split(",") for line in lines), strict=True)
    times = np.array(times, dtype="datetime64[s]")
    x, label = np.array(values, dtype=float)[:, None], np.zeros(len(times), dtype=bool)
    windows = json.loads((folder / "nab" / "combined_windows.json").read_text())
    for start, stop in np.array(windows[name], dtype="datetime64[s]"):
        label |= (times > start) & (times <= stop)
    return x[:2352], x[2352:], label[2352:]


def smd(folder):
    """Return a server machine: the end of its training part, the begin of its test."""
    data = np.load(folder / "smd" / "machine-1-7.npz")
    return data["train"][-3000:], data["test"][:6000], data["label"][:6000] > 0


def telemanom(folder):
    """Return a channel of a satellite."""
    data = np.load(folder / "telemanom" / "P-1.npz")
    return data["train"], data["test"], data["label"] > 0


SERIES = {
    "UCR 135": ucr,
    "ECG 805": ecg,
    "NAB nyc_taxi": nab,
    "SMD 1-7": smd,
    "telemanom P-1": telemanom,
}


def series(options, table):
    """Series, steps in order of time."""
    for data in options.series:
        train, test, marked = SERIES[data](pathlib.Path(options.data) / "series")
        train, test = np.float64(train), np.float64(test)
        near = np.convolve(marked, np.ones(401), mode="same") > 0.5
        step = np.abs(np.diff(test, axis=0, prepend=test[:1])).sum(axis=1)
        baseline(table, data, "|difference|", marked, step)
        for name, model, settings in detectors("series", options):
            draws = [(train, None, Scored(test, ~near), Scored(test, marked))]
            add(table, data, name, settings, Parted(model), draws)


class Scored:
    """Some steps of a series, which is scored as a whole."""

    def __init__(self, X, chosen):
        self.X, self.chosen = X, chosen


class Parted:
    """A detector that is asked about some steps of a series."""

    def __init__(self, detector):
        self.detector = detector

    def get_params(self, deep=False):
        """Return the detector's parameters."""
        return self.detector.get_params(deep)

    def set_params(self, **params):
        """Set the detector's parameters."""
        self.detector.set_params(**params)

    def fit(self, X, y):
        """Fit the detector."""
        self.detector.fit(X, y)

    def decision_function(self, part):
        """Return the decision function of the chosen steps."""
        return self.detector.decision_function(part.X)[part.chosen]


def baseline(table, data, name, anomalous, score):
    """Add the row of a score without any model."""
    table.add(data, name, "", "", "", "", "", "", roc_auc_score(anomalous, score), "")


def add(table, data, name, settings, model, draws):
    """Add the row of a detector."""
    found = tried(f"{name} on {data}", model, draws)
    if found:
        table.add(data, name, settings, *found)


def tried(name, model, draws):
    """Return what is measured, or print the reason why it cannot be had."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return measured(model, draws)
    except (ValueError, TypeError, RuntimeError, AttributeError, ImportError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        print(f"# {name}: {reason}", flush=True)
        return None


def merge(table, path):
    """Put the rows of other parts and detectors, which are in the file, before ours."""
    if not path.exists():
        return
    lines = [line for line in path.read_text().splitlines() if line[:1] != "#"]
    ours = {(row[0], row[1]) for row in table.rows}
    known = [line.split("\t") for line in lines[1:]]
    table.rows = [row for row in known if (row[0], row[1]) not in ours] + table.rows
    table.rows.sort(key=lambda row: (row[0].split(" =")[0] != "n", row[1], len(row[0])))


def main():
    """Run the parts that the command line names."""
    parts = {f.__name__: f for f in (rows, edges, tables, pictures, series)}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--data", default="../shared/data", help="shared data")
    parser.add_argument("--only", nargs="+", help="detectors")
    parser.add_argument("--n", nargs="+", type=int, default=[100, 1000])
    parser.add_argument("--series", nargs="+", default=list(SERIES), choices=SERIES)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--size", type=int, default=128, help="of pictures, in pixels")
    parser.add_argument("--epochs", type=int, help="at most, instead of 10, 3 and 3")
    parser.add_argument("--out", default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args()
    table = Table(COLUMNS)
    for part in options.parts:
        parts[part](options, table)
    path = pathlib.Path(options.out) / "thresholds.tsv"
    merge(table, path)
    table.write(path, MERGED)


if __name__ == "__main__":
    main()
