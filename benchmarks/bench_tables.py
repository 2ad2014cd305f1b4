"""Detectors on tables against PyOD and scikit-learn: accuracy, time, memory, start.

Run in an environment with the peers (see requirements.txt), with nothing else running:

    OMP_NUM_THREADS=1 python benchmarks/bench_tables.py speed
    OMP_NUM_THREADS=1 python benchmarks/bench_tables.py accuracy --data ../shared/data

Parts: accuracy, label_free (what criteria without labels choose), scaling, speed, rows
(one row scored), close (rows that float32 does not tell apart), grid (fit and scores
over sizes, in seconds of a CPU), memory, start, gpu. Each writes
``benchmarks/results/tables_<part>.tsv``.
"""

import argparse
import collections
import pathlib
import signal
import statistics

import numpy as np
from _grid import grid
from _measure import Table, fresh_process, in_turns, median_seconds, seconds
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

import skad
from skad._commands._build import kind_of_data
from skad._commands._scaling import with_scaling
from skad.calibration._base import DetectorAround
from skad.model_selection import excess_mass, mass_volume, model_centrality

# Our detectors, with arguments, and the peer's name in peers.tsv.
SAME_METHOD = [
    ("OneClassSVM", {}, "OCSVM"),
    ("Mahalanobis", {"covariance": "mcd", "random_state": 0}, "MCD"),
    ("GMM", {"n_components": 4, "random_state": 0}, "GMM"),  # the peer's setting
    ("PCAReconstruction", {}, "PCA"),
    ("KNN", {}, "KNN"),
    ("LOF", {}, "LOF"),
    ("IsolationForest", {"random_state": 0}, "IForest"),
    ("ECOD", {}, "ECOD"),
    ("COPOD", {}, "COPOD"),
    ("HBOS", {}, "HBOS"),
]
# Detectors of ours that no peer in the table has under that name, beside all others
# that train no network, which have their defaults.
OTHERS = [
    ("OneClassSVM", {"solver": "nystroem", "random_state": 0}),
    ("SVDD", {}),
    ("Mahalanobis", {}),
    ("KDE", {}),
    ("KernelPCAReconstruction", {}),
    ("MatrixSketch", {}),
    ("FeatureBagging", {"random_state": 0}),
    *[
        ("ScoreEnsemble", {"combination": combination, "random_state": 0})
        for combination in ("average", "maximum", "rank", "lscp")
    ],
]
# What has no method of its own, or looks at categories.
AROUND_OTHERS = ("ContingencyTables", "RefinedDetector", "LikelihoodRatio")


def closed_form():
    """Return (name, class) of the detectors that train no network."""
    return [
        (name, cls)
        for name, cls in skad.all_detectors()
        if not hasattr(cls, "_network")
    ]


def seeded(detector):
    """Return a detector with its random numbers fixed and no honest threshold."""
    wanted = {"random_state": 0, "contamination": 0.1}
    return detector.set_params(
        **{name: wanted[name] for name in wanted.keys() & detector.get_params().keys()}
    )


def real_tables(folder):
    """Yield (name, setting, train, test, anomalous) of the shared sets' protocol."""
    for path in sorted((pathlib.Path(folder) / "tabular").glob("*.npz")):
        data = np.load(path)
        X, y = data["X"].astype(float), data["y"]
        name = path.stem.split("_", 1)[1]
        scaled = StandardScaler().fit_transform(X)
        yield name, "unsup", scaled, scaled, y
        order = np.random.RandomState(0).permutation(np.flatnonzero(y == 0))
        train = order[: len(order) // 2]
        rest = np.setdiff1d(np.arange(len(X)), train)
        scaler = StandardScaler().fit(X[train])
        test = scaler.transform(X[rest])
        yield name, "semi", scaler.transform(X[train]), test, y[rest]


def by_defaults():
    """Return (name, arguments) of all other detectors of tables without a network."""
    known = {name for name, *_ in SAME_METHOD + OTHERS}
    found = []
    for name, cls in closed_form():
        around = issubclass(cls, DetectorAround) or name in AROUND_OTHERS
        if kind_of_data(cls) == "tables" and not around and name not in known:
            seed = "random_state" in cls().get_params(deep=False)
            found.append((name, {"random_state": 0} if seed else {}))
    return found


class Late(Exception):  # noqa: N818 (no error)
    """Ends a fit that takes too long."""


def late(*_):
    """Raise `Late`."""
    raise Late


def scores_in_time(detector, train, test, limit):
    """Return the scores, or None after so many seconds of processor time."""
    signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit)
    try:
        return detector.fit(train).score_samples(test)
    except Late:
        return None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def accuracy(options):
    """Quality on the shared sets beside the peer's figures.

    What takes more than `--limit` seconds on a set has no mean.
    """
    figures = {}
    peers = pathlib.Path(options.data, "tabular", "peers.tsv").read_text()
    for line in peers.splitlines()[1:]:
        dataset, setting, method, _, _, auc, precision, _ = line.split("\t")
        figures[dataset, setting, method] = float(auc), float(precision)
    columns = "dataset setting detector auc peer_auc difference ap peer_ap".split()
    table = Table(columns)
    gaps, slow = collections.defaultdict(list), set()
    others = [(*row, None) for row in OTHERS + by_defaults()]
    for name, setting, train, test, y in real_tables(options.data):
        for detector, arguments, peer in SAME_METHOD + others:
            model = getattr(skad, detector)(**arguments)
            scores = scores_in_time(model, train, test, options.limit)
            if scores is None:
                slow.add((detector, setting))
                continue
            auc, precision = (
                roc_auc_score(y, -scores),
                average_precision_score(y, -scores),
            )
            theirs = figures.get((name, setting, peer), (float("nan"),) * 2)
            shown = ",".join(f"{key}={value}" for key, value in arguments.items())
            label = f"{detector}({shown})"
            gaps[label, setting].append((auc, theirs[0]))
            gap = auc - theirs[0]
            table.add(name, setting, label, auc, theirs[0], gap, precision, theirs[1])
    for (label, setting), pairs in sorted(gaps.items()):
        if (label.split("(")[0], setting) in slow:
            continue
        ours, theirs = (statistics.mean(column) for column in zip(*pairs, strict=True))
        worst = min(a - b for a, b in pairs)
        table.add("mean", setting, label, ours, theirs, ours - theirs, "worst", worst)
    return table


def label_free(options):
    """Which kind of detector label-free criteria choose, and how good it is.

    A criterion chooses, without labels, among all kinds that train no network, in their
    defaults, but the two that search for codes, which take a minute each; the figures
    are ROC AUC of its choice, of the kinds on average, and of the best of them.
    """
    table = Table("dataset criterion chosen auc mean_auc best_auc".split())
    found = collections.defaultdict(list)
    slow = "SelfRepresentation", "SparseCoding"
    kinds = [cls for _, cls in closed_form() if cls._data == "rows"]
    kinds = [cls for cls in kinds if cls.__name__ not in slow]
    for name, setting, train, _, y in real_tables(options.data):
        if setting != "unsup":
            continue
        rows = np.random.RandomState(0).permutation(len(train))[:700]
        X, anomalous = train[rows], y[rows]
        fitted = [seeded(cls()).fit(X) for cls in kinds]
        areas = [roc_auc_score(anomalous, -each.score_samples(X)) for each in fitted]
        for criterion, values in (
            ("excess_mass", [excess_mass(each, X) for each in fitted]),
            ("mass_volume", [mass_volume(each, X) for each in fitted]),
            ("model_centrality", model_centrality(fitted, X)),
        ):
            chosen = int(np.argmax(values))
            figures = areas[chosen], statistics.mean(areas), max(areas)
            found[criterion].append(figures)
            table.add(name, criterion, kinds[chosen].__name__, *figures)
    for criterion, figures in found.items():
        columns = zip(*figures, strict=True)
        table.add("mean", criterion, "", *map(statistics.mean, columns))
    return table


def scaling(options):
    """Quality by what the command line does to features before: mean ROC AUC.

    Half of the normal rows are learned from (clean), or all rows (dirty), or a half in
    which every other feature has a value that strays by 1,000 deviations (stray).
    """
    sets = {"cancer": load_breast_cancer, "wine": load_wine, "iris": load_iris}
    sets = {name: load(return_X_y=True) for name, load in sets.items()}
    sets = [(name, X, y != 1) for name, (X, y) in sets.items()]
    for path in sorted(pathlib.Path(options.data, "tabular").glob("*.npz")):
        data = np.load(path)
        X, y = data["X"].astype(float), data["y"].ravel() == 1
        sets.append((path.stem.split("_", 1)[1], X, y))
    table = Table("set training detector none standard robust".split())
    means = collections.defaultdict(list)
    for name, X, anomalous in sets:
        random = np.random.default_rng(0)
        order = random.permutation(len(X))[:1500]
        X, y = X[order], anomalous[order]
        half = np.flatnonzero(~y)[: (~y).sum() // 2]
        rest = np.setdiff1d(np.arange(len(X)), half)
        stray = X[half].copy()
        for j in range(0, X.shape[1], 2):
            stray[random.integers(len(stray)), j] += 1000 * stray[:, j].std()
        trainings = {"clean": (X[half], rest), "stray": (stray, rest)}
        if y.mean() < 0.4:
            trainings["dirty"] = X, np.arange(len(X))
        for training, (train, test) in trainings.items():
            for detector in ("KNN", "LOF", "OneClassSVM", "PCAReconstruction"):
                aucs = []
                for how in ("none", "standard", "robust"):
                    model = with_scaling(getattr(skad, detector)(), train, how).model
                    scores = model.fit(train).score_samples(X[test])
                    aucs.append(float(roc_auc_score(y[test], -scores)))
                table.add(name, training, detector, *aucs)
                means[training, detector].append(aucs)
                means[training, "all four"].append(aucs)
    for (training, detector), aucs in sorted(means.items()):
        table.add("mean", training, detector, *map(float, np.mean(aucs, axis=0)))
    return table


def speed(options):
    """Fit and score against the peer, in turns."""
    from pyod.models.knn import KNN as PyodKNN
    from sklearn.svm import OneClassSVM as Libsvm

    table = Table("work ours_s peer_s ratio wanted note".split())

    def versus(work, ours, peer, wanted, note="", turns=3):
        mine, theirs = in_turns(ours, peer, turns)
        table.add(work, mine, theirs, theirs / mine, wanted, note)

    rng = np.random.default_rng(0)
    X, Q = rng.normal(size=(10_000, 20)), rng.normal(size=(10_000, 20))
    peer = Libsvm(nu=0.1).fit(X)
    for dtype, wanted in ((np.float64, 3), (np.float32, 7)):
        ours = skad.OneClassSVM(nu=0.1).fit(X.astype(dtype))
        rows = Q.astype(dtype)
        gap = np.abs(ours.score_samples(rows) - peer.score_samples(Q)).max()
        versus(
            f"OneClassSVM score 10,000 {np.dtype(dtype)}",
            lambda ours=ours, rows=rows: ours.score_samples(rows),
            lambda: peer.score_samples(Q),
            wanted,
            f"largest difference {gap / ours.offset_:.1e} of rho",
        )
    for n, wanted, turns in ((10_000, 1, 3), (40_000, 1.8, 1)):
        rows = rng.normal(size=(n, 20))
        ours, peer = skad.OneClassSVM(nu=0.1), Libsvm(nu=0.1)
        versus(
            f"OneClassSVM fit {n:,}",
            lambda ours=ours, rows=rows: ours.fit(rows),
            lambda peer=peer, rows=rows: peer.fit(rows),
            wanted,
            turns=turns,
        )
        objectives = dual_objective(ours, rows), dual_objective(peer, rows)
        table.rows[-1][-1] = "objective ours {:.8g} peer {:.8g}".format(*objectives)
    for nu in (0.5, 0.1):
        fast = skad.OneClassSVM(nu=nu, solver="nystroem", random_state=0)
        for peer in (Libsvm(nu=nu), skad.OneClassSVM(nu=nu)):
            whose = "libsvm" if isinstance(peer, Libsvm) else "our own exact solver"
            versus(
                f"OneClassSVM nystroem fit and score 10,000, nu {nu}, against {whose}",
                lambda fast=fast: fast.fit(X).score_samples(Q),
                lambda peer=peer: peer.fit(X).score_samples(Q),
                50,
            )
    for gamma in (0.2, 1.0):  # "scale" is 0.05: narrow kernels, many free vectors
        rows = X[:5_000]
        ours, peer = (each(nu=0.1, gamma=gamma) for each in (skad.OneClassSVM, Libsvm))
        versus(
            f"OneClassSVM fit 5,000, gamma {gamma}",
            lambda ours=ours, rows=rows: ours.fit(rows),
            lambda peer=peer, rows=rows: peer.fit(rows),
            1,
        )
    X = rng.normal(size=(50_000, 20))
    versus(
        "KNN fit with training scores 50,000",
        lambda: skad.KNN().fit(X),
        lambda: PyodKNN().fit(X),
        1.8,
    )
    X, Q = rng.normal(size=(200_000, 20)), rng.normal(size=(1_000, 20))
    skad.KNN(algorithm="pynndescent", random_state=0).fit(X[:2_000])  # compiles
    exact = skad.KNN(algorithm="brute")
    graph = skad.KNN(algorithm="pynndescent", random_state=0)
    versus(
        "KNN pynndescent against exact, fit 200,000",
        lambda: graph.fit(X),
        lambda: exact.fit(X),
        5,
        turns=1,
    )
    found, truth = graph._search_.query(Q, 5)[1], exact._search_.query(Q, 5)[1]
    recall = (found[:, :, None] == truth[:, None, :]).any(axis=2).mean()
    table.rows[-1][-1] = f"recall of 5 neighbours {recall:.3f}"
    return table


def dual_objective(detector, X):
    """Return half of a'Ka of a fitted one-class SVM."""
    alphas = np.asarray(detector.dual_coef_).ravel()
    scores = np.asarray(detector.score_samples(X[detector.support_]))
    return 0.5 * float(alphas @ scores)


def rows(options):
    """One row scored, against the peer where there is one."""
    from pyod.models.copod import COPOD as PyodCOPOD
    from pyod.models.ecod import ECOD as PyodECOD
    from sklearn.ensemble import IsolationForest as SklearnForest

    table = Table("detector ours_ms peer_ms ratio wanted note".split())
    X = np.random.default_rng(0).normal(size=(10_000, 20))
    row = X[:1]
    peers = {
        "ECOD": (PyodECOD().fit(X).decision_function, 50),
        "COPOD": (PyodCOPOD().fit(X).decision_function, 50),
        "IsolationForest": (SklearnForest(random_state=0).fit(X).score_samples, 10),
    }
    for name, detector in closed_form():
        arguments = (
            {"random_state": 0} if "random_state" in detector().get_params() else {}
        )
        fitted = detector(**arguments).fit(X)
        fitted.score_samples(row)
        ours = (
            median_seconds(lambda fitted=fitted: fitted.score_samples(row), 200) * 1e3
        )
        if name not in peers:
            table.add(name, ours, "", "", "1 ms", "")
            continue
        peer, wanted = peers[name]
        # a turn is 20 calls: one alone would find the caches full of the peer's data
        mine, theirs = in_turns(
            lambda fitted=fitted: [fitted.score_samples(row) for _ in range(20)],
            lambda peer=peer: [peer(row) for _ in range(20)],
            15,
        )
        mine, theirs = mine / 20, theirs / 20
        note = ""
        if name == "IsolationForest":
            gap = np.abs(peer(X) - fitted.score_samples(X)).max()
            note = f"largest difference {gap:.1e}"
        table.add(name, mine * 1e3, theirs * 1e3, theirs / mine, wanted, note)
    return table


PEAK = """
import pathlib, re, sys
import numpy as np, skad
def status(key):
    text = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(key + r":\\s+(\\d+)", text)[1]) / 1024
X = np.random.default_rng(0).normal(size=(50_000, 20))
detector = getattr(skad, sys.argv[1])()
pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
before = status("VmRSS")
detector.fit(X)
fit = status("VmHWM") - before
detector.score_samples(X); detector.transform(X[:1000])
print(fit, status("VmHWM") - before)
"""


def memory(options):
    """Peak memory above the data of each detector with its defaults."""
    table = Table("detector fit_mb fit_and_score_mb wanted".split())
    for name, _ in closed_form():
        fit, both = map(float, fresh_process(PEAK, name).split())
        table.add(name, fit, both, "300 MB")
    return table


FIRST = """
import sys, time
import numpy as np, skad
X = np.random.default_rng(0).normal(size=(10_000, 20))
detector = getattr(skad, sys.argv[1])()
times = []
for _ in range(2):
    start = time.perf_counter()
    detector.fit(X)
    times.append(time.perf_counter() - start)
print(*times, "torch" in sys.modules)
"""
IMPORT = """
import sys, time
start = time.perf_counter()
exec(sys.argv[1])
print(time.perf_counter() - start)
"""


def close(options):
    """Neighbours of rows that float32 products cannot tell apart, beside others."""
    table = Table("rows features noise ours_s peer_s ratio wanted".split())
    rng = np.random.default_rng(0)
    for n_features in (55, 1100):
        levels = np.repeat([0.0, 1.0], 600)[:, None]
        for noise in (1.0, 1e-4):
            X = levels + noise * rng.normal(size=(1200, n_features))
            ours = seconds(lambda X=X: skad.KNN(algorithm="brute").fit(X))
            search = NearestNeighbors(n_neighbors=5, algorithm="brute")
            peer = seconds(lambda X=X, search=search: search.fit(X).kneighbors())
            table.add(1200, n_features, noise, ours, peer, ours / peer, "at most 10")
    return table


def start(options):
    """Imports, and the first fit of a fresh process beside the second."""
    table = Table("work first_s second_s ratio wanted note".split())
    for ours, peer in (
        ("import skad", "import sklearn"),
        ("from skad import KNN", "from sklearn.neighbors import NearestNeighbors"),
    ):
        times = [
            [float(fresh_process(IMPORT, code)) for code in (ours, peer)]
            for _ in range(5)
        ]
        mine, theirs = (
            statistics.median(column) for column in zip(*times, strict=True)
        )
        table.add(f"{ours} | {peer}", mine, theirs, mine / theirs, "+0.2 s", "")
    for name, _ in closed_form():
        runs = [fresh_process(FIRST, name).split() for _ in range(3)]
        first, second = (
            statistics.median(float(run[i]) for run in runs) for i in (0, 1)
        )
        note = "imports torch" if runs[0][2] == "True" else ""
        table.add(
            f"{name} fit 10,000", first, second, first / second, "at most 2", note
        )
    return table


def gpu(options):
    """The heavy work on a GPU beside the same on this machine's CPU."""
    import torch

    table = Table("work gpu_s cpu_s ratio note".split())
    name = torch.cuda.get_device_name()

    def on_gpu(function):
        function()  # loads kernels
        torch.cuda.synchronize()
        return seconds(lambda: (function(), torch.cuda.synchronize()))

    rng = np.random.default_rng(0)
    for n, dtype in ((100_000, np.float32), (100_000, np.float64)):
        X = rng.normal(size=(n, 20)).astype(dtype)
        ours = skad.OneClassSVM(nu=0.1, device="cuda")
        time_fit = on_gpu(lambda ours=ours, X=X: ours.fit(X))
        table.add(f"OneClassSVM fit {n:,} {np.dtype(dtype)}", time_fit, "", "", name)
        time_score = on_gpu(lambda ours=ours, X=X: ours.score_samples(X))
        table.add(
            f"OneClassSVM score {n:,} {np.dtype(dtype)}", time_score, "", "", name
        )
    for n in (100_000, 1_000_000):
        X = rng.normal(size=(n, 20)).astype(np.float32)
        ours = skad.KNN(algorithm="brute", device="cuda")
        time_fit = on_gpu(lambda ours=ours, X=X: ours.fit(X))
        part = X[: 100_000_000 // n]  # the CPU's time grows with the rows asked for
        cpu = skad.KNN(algorithm="brute", device="cpu")
        cpu._check_parameters(X)
        cpu._fit(X, None)
        cpu_time = seconds(lambda cpu=cpu, part=part: cpu._search_.query(part, 6))
        cpu_time *= n / len(part)
        note = f"{name}; CPU from {len(part)} rows"
        table.add(
            f"KNN fit {n:,} float32", time_fit, cpu_time, cpu_time / time_fit, note
        )
    return table


def main():
    """Run the parts that the command line names."""
    first = accuracy, label_free, scaling, speed, rows, close, grid
    functions = (*first, memory, start, gpu)
    parts = {f.__name__: f for f in functions}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--data", default="../shared/data", help="shared data")
    parser.add_argument("--limit", type=float, default=60, help="seconds on a set")
    parser.add_argument("--only", nargs="*", help="detectors of the grid")
    parser.add_argument("--out", default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args()
    for part in options.parts:
        table = parts[part](options)
        path = pathlib.Path(options.out) / f"tables_{part}.tsv"
        table.write(path, *table.notes)


if __name__ == "__main__":
    main()
