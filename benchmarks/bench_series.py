"""Series: quality beside the peers' figures, time and memory over long series.

    OMP_NUM_THREADS=1 python benchmarks/bench_series.py quality --data ../shared/data
    OMP_NUM_THREADS=1 python benchmarks/bench_series.py smd --data ../shared/data
    OMP_NUM_THREADS=1 python benchmarks/bench_series.py published --data ../shared/data
    OMP_NUM_THREADS=1 python benchmarks/bench_series.py scale profile
    OMP_NUM_THREADS=1 python benchmarks/bench_series.py edges --data ../shared/data

`quality`: every detector with its defaults, fitted on the whole series that it scores,
as the peers were; VUS-PR in TSB-AD's form with the dominant period as its window.
Trivial scores stand beside, and a last row per pair has the means over the series in
common. `published`: forecasters trained on the first rows of server machines, beside
TSB-AD's own figures. `smd`: the same machines, fitted on their training part: VUS-PR of
the scores, and how well the map names the channels of an event, beside |z| of each
channel. `scale`: up to a million steps of ten channels, in processes of their own, in
CPU seconds. `profile`: matrix profiles and STUMPY's, in CPU seconds; it needs stumpy
(requirements.txt). `edges`: MIDAS on the DARPA stream. `gpu`: a long matrix profile on
a GPU and on the host. Each part writes ``benchmarks/results/series_<part>.tsv``.
"""

import argparse
import json
import pathlib
import sys
import time
import warnings

import numpy as np
from _measure import Table, fresh_process, machine
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad.metrics import hit_rate_at, vus_pr

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))


def scaled(detector):
    """Return a network behind the scaling that its documentation asks for."""
    return make_pipeline(StandardScaler(), detector)


# Each detector with its defaults, and the peers that do the same.
DETECTORS = {
    "SubsequenceKNN": (skad.SubsequenceKNN(), ["TSB-AD.Sub_KNN"]),
    "Discord": (skad.Discord(), []),
    "SubsequenceKNN, as before": (
        skad.SubsequenceKNN(window_size="tsb", exclude=0),
        ["TSB-AD.Sub_KNN"],
    ),
    "SubsequenceLOF": (skad.SubsequenceLOF(), ["TSB-AD.Sub_LOF", "aeon.LOF(k=20)"]),
    "KMeansAD": (
        skad.KMeansAD(random_state=0),
        ["TSB-AD.KMeansAD_U", "TSB-AD.KMeansAD", "aeon.KMeansAD(20)"],
    ),
    "WindowDetector(IsolationForest)": (
        skad.WindowDetector(skad.IsolationForest(random_state=0)),
        ["TSB-AD.Sub_IForest", "aeon.IForest(100)"],
    ),
    "WindowDetector(PCAReconstruction)": (
        skad.WindowDetector(skad.PCAReconstruction()),
        ["TSB-AD.Sub_PCA"],
    ),
    "MatrixProfile": (
        skad.MatrixProfile(),
        ["TSB-AD.MatrixProfile", "aeon.STOMP"],
    ),
    # as the peer: centred, and judged after a tenth of the series
    "LeftMatrixProfile(align='center'), after a tenth": (
        skad.LeftMatrixProfile(align="center"),
        ["TSB-AD.Left_STAMPi"],
    ),
    "LeftMatrixProfile(align='mean'), after a tenth": (
        skad.LeftMatrixProfile(align="mean"),
        ["TSB-AD.Left_STAMPi"],
    ),
    "LeftMatrixProfile": (skad.LeftMatrixProfile(), ["TSB-AD.Left_STAMPi"]),
    "PASAD": (skad.PASAD(rank=5), []),
    "PASAD(measure='residual')": (skad.PASAD(rank=5, measure="residual"), []),
    "SpectralResidual": (skad.SpectralResidual(), ["TSB-AD.SR", "SR(MS)"]),
    "RegressionForecaster": (scaled(skad.RegressionForecaster()), []),
    # fewer steps than their defaults, so that two cores train them in minutes
    "LSTMForecaster(max_epochs=20, lr=0.005)": (
        scaled(skad.LSTMForecaster(max_epochs=20, lr=0.005, random_state=0)),
        [],
    ),
    "DeepAnT(stride=5)": (scaled(skad.DeepAnT(stride=5, random_state=0)), []),
    "LSTMAutoEncoder(stride=5, batch_size=32, max_epochs=20, lr=0.005)": (
        scaled(
            skad.LSTMAutoEncoder(
                stride=5, batch_size=32, max_epochs=20, lr=0.005, random_state=0
            )
        ),
        [],
    ),
    "USAD(alpha=0.5, beta=0.5, window_size=12, max_epochs=10)": (
        skad.USAD(alpha=0.5, beta=0.5, window_size=12, max_epochs=10, random_state=0),
        [],
    ),
    "USAD(window_size=12, max_epochs=10)": (
        skad.USAD(window_size=12, max_epochs=10, random_state=0),
        [],
    ),
    "OmniAnomaly(hidden_size=32, stride=5, align='mean', max_epochs=20, lr=0.005)": (
        scaled(
            skad.OmniAnomaly(
                hidden_size=32,
                stride=5,
                align="mean",
                max_epochs=20,
                lr=0.005,
                random_state=0,
            )
        ),
        [],
    ),
}

# For many channels and long training series: what takes a minute at most.
ON_MACHINES = {
    "DeepAnT(stride=10)": skad.DeepAnT(stride=10, random_state=0),
    "LSTMForecaster(stride=25, max_epochs=10)": skad.LSTMForecaster(
        stride=25, max_epochs=10, random_state=0
    ),
    "WindowDetector(Mahalanobis(), window_size=1)": skad.WindowDetector(
        skad.Mahalanobis(), window_size=1
    ),
    "WindowDetector(PCAReconstruction(), window_size=1)": skad.WindowDetector(
        skad.PCAReconstruction(), window_size=1
    ),
    "WindowDetector(ECOD(), window_size=1)": skad.WindowDetector(
        skad.ECOD(), window_size=1
    ),
    "WindowDetector(HBOS(), window_size=1)": skad.WindowDetector(
        skad.HBOS(), window_size=1
    ),
    "SpectralResidual": skad.SpectralResidual(),
    "PASAD(rank=5)": skad.PASAD(rank=5),
    "PASAD(rank=5, measure='residual')": skad.PASAD(rank=5, measure="residual"),
    "KMeansAD(max_windows=5000)": skad.KMeansAD(max_windows=5000, random_state=0),
    "SubsequenceKNN(window_size=20, max_windows=1000)": skad.SubsequenceKNN(
        window_size=20, max_windows=1000
    ),
    "SubsequenceLOF(window_size=20, max_windows=1000)": skad.SubsequenceLOF(
        window_size=20, max_windows=1000
    ),
    "LSTMAutoEncoder(window_size=50, stride=25, max_epochs=20)": skad.LSTMAutoEncoder(
        window_size=50, stride=25, max_epochs=20, batch_size=32, random_state=0
    ),
    "USAD(alpha=0.5, beta=0.5, window_size=12, stride=5, max_epochs=20)": skad.USAD(
        alpha=0.5,
        beta=0.5,
        window_size=12,
        stride=5,
        max_epochs=20,
        random_state=0,
    ),
    "OmniAnomaly(hidden_size=32, window_size=50, stride=25, align='mean')": (
        skad.OmniAnomaly(
            hidden_size=32,
            window_size=50,
            stride=25,
            align="mean",
            max_epochs=20,
            random_state=0,
        )
    ),
}

SERIES = "nab_ec2_latency nab_nyc_taxi ucr_135 ucr_136 smd_1-7 smd_2-1".split()


def trivial(X):
    """Return scores that take no model."""
    scale = X.std(axis=0)
    z = np.abs(X - X.mean(axis=0)) / np.where(scale > 0, scale, 1)
    return {
        "|difference|": np.abs(np.diff(X, axis=0, prepend=X[:1])).sum(axis=1),
        "|z|": z.max(axis=1),
        "random": np.random.default_rng(0).random(len(X)),
    }


def quality(options):
    """VUS-PR and more of every detector where a peer's figure is known."""
    from tests._series_data import load_series, peer_figures

    folder = pathlib.Path(options.data)
    peers = peer_figures(folder)
    table = Table(
        "series detector vus_pr average_precision roc_auc seconds peer peer_vus_pr "
        "published_vus_pr".split()
    )
    pairs = {}
    for name in SERIES:
        X, y = load_series(folder, name)
        [window] = {int(row["window"]) for key, row in peers.items() if key[0] == name}

        def figures(anomaly, y=y, window=window):
            return (
                vus_pr(y, anomaly, window=window, pos_label=1),
                average_precision_score(y, anomaly),
                roc_auc_score(y, anomaly),
            )

        for label, anomaly in trivial(X).items():
            table.add(name, label, *figures(anomaly), "", "", "", "")
        for label, (detector, methods) in DETECTORS.items():
            known = [method for method in methods if (name, method) in peers]
            if options.only and options.only not in label:
                continue
            if (methods and not known) or (not methods and X.shape[1] > 1):
                continue
            start = time.perf_counter()
            anomaly = -detector.fit(X).score_samples(X)
            took = time.perf_counter() - start
            if label.endswith("after a tenth"):
                anomaly[: len(X) // 10] = 0.0
            found = figures(anomaly)
            if not methods:
                table.add(name, label, *found, took, "", "", "")
                pairs.setdefault((label, ""), []).append((found[0], np.nan))
            for method in known:
                row = peers[name, method]
                published = row["published_vus_pr"]
                table.add(name, label, *found, took, method, row["vus_pr"], published)
                library = label, method.removesuffix("_U")
                pairs.setdefault(library, []).append((found[0], row["vus_pr"]))
    for (label, method), values in pairs.items():
        ours, theirs = np.mean(values, axis=0)
        theirs = theirs if method else ""
        table.add(f"mean of {len(values)}", label, ours, "", "", "", method, theirs, "")
    return table


def smd(options):
    """How well scores find, and maps name the channels of, events on two machines."""
    from tests._series_data import SMD, load_machine, peer_figures

    folder = pathlib.Path(options.data)
    peers = peer_figures(folder)
    table = Table(
        "machine detector vus_pr hit_rate_100 hit_rate_150 fit_s "
        "score_and_map_s".split()
    )
    means = {}
    for name in SMD:
        train, test, y, causes = load_machine(folder, name)
        [window] = {int(row["window"]) for key, row in peers.items() if key[0] == name}

        def add(label, anomaly, maps, *took, name=name, y=y, c=causes, w=window):
            figures = (
                vus_pr(y, anomaly, window=w, pos_label=1),
                hit_rate_at(c, maps, percent=100),
                hit_rate_at(c, maps, percent=150),
            )
            table.add(name, label, *figures, *(took or ("", "")))
            means.setdefault(label, []).append(figures)

        scale = train.std(axis=0)
        z = np.abs(test - train.mean(axis=0)) / np.where(scale > 0, scale, 1)
        add("|z| of each channel", z.max(axis=1), z)
        noise = np.random.default_rng(0).random(test.shape)
        add("random", noise.max(axis=1), noise)
        for label, detector in ON_MACHINES.items():
            if options.only and options.only not in label:
                continue
            start = time.perf_counter()
            detector.fit(train)
            fitted = time.perf_counter()
            anomaly, maps = -detector.score_samples(test), detector.transform(test)
            add(label, anomaly, maps, fitted - start, time.perf_counter() - fitted)
    for label, figures in means.items():
        table.add(f"mean of {len(figures)}", label, *np.mean(figures, axis=0), "", "")
    return table


# TSB-AD's own figures, and how many first rows of the test part it trains on.
PUBLISHED = {
    "smd_1-7": (737, {"CNN": 0.138, "LSTMAD": 0.120}),
    "smd_2-1": (5923, {"CNN": 0.335, "LSTMAD": 0.366}),
}


def published(options):
    """Forecasters by the peer's protocol: trained on the first rows they score."""
    from tests._series_data import load_series, peer_figures

    folder = pathlib.Path(options.data)
    peers = peer_figures(folder)
    table = Table("series detector vus_pr seconds peer published_vus_pr".split())
    pairs = {}
    for name, (n, known) in PUBLISHED.items():
        X, y = load_series(folder, name)
        [window] = {int(row["window"]) for key, row in peers.items() if key[0] == name}
        for label, peer in (("DeepAnT", "CNN"), ("LSTMForecaster", "LSTMAD")):
            detector = scaled(getattr(skad, label)(random_state=0))
            start = time.perf_counter()
            anomaly = -detector.fit(X[:n]).score_samples(X)
            took = time.perf_counter() - start
            found = vus_pr(y, anomaly, window=window, pos_label=1)
            table.add(name, label, found, took, f"TSB-AD.{peer}", known[peer])
            pairs.setdefault((label, peer), []).append((found, known[peer]))
    for (label, peer), values in pairs.items():
        ours, theirs = np.mean(values, axis=0)
        table.add(f"mean of {len(values)}", label, ours, "", f"TSB-AD.{peer}", theirs)
    return table


SCALE = """
import json, resource, sys, time
import numpy as np, skad
n, code = int(sys.argv[1]), sys.argv[2]
X = np.random.default_rng(0).normal(size=(n, 10))
detector = eval(code, dict(skad.all_detectors()))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.process_time()
detector.fit(X[:100_000])
fit, start = time.process_time() - start, time.process_time()
detector.score_samples(X)
print(json.dumps([fit, time.process_time() - start, peak() - before]))
"""


def scale(options):
    """Time and memory above the data over the length of the series."""
    table = Table("detector steps fit_s score_s us_per_step mb_above_data".split())
    for code in (
        "KMeansAD(window_size=100, max_windows=5000, random_state=0)",
        "WindowDetector(Mahalanobis(), window_size=20)",
        "WindowDetector(IsolationForest(), window_size=20, stride=10)",
    ):
        for n in (250_000, 500_000, 1_000_000):
            fit, score, memory = json.loads(fresh_process(SCALE, n, code))
            table.add(code, n, fit, score, 1e6 * score / n, memory)
    return table


def cpu_seconds(function):
    """Return the processor time of a call, over all threads, and what it returns."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def walk(n):
    """Return the series of the profiles: a random walk of shape (n, 1)."""
    return np.random.default_rng(0).normal(size=n).cumsum()[:, None]


FRESH = """
import sys, time
import numpy as np
n, m = int(sys.argv[1]), int(sys.argv[2])
x = np.random.default_rng(0).normal(size=n).cumsum()
if sys.argv[3] == "stump":
    import stumpy
    stumpy.stump(x, m=m)
elif sys.argv[3] == "stumpi":
    import stumpy
    stream = stumpy.stumpi(x[: 2 * m], m=m, egress=False)
    for value in x[2 * m :]:
        stream.update(value)
else:
    import skad
    getattr(skad, sys.argv[3])(window_size=m).fit(x[:, None])
print(time.process_time())
"""

PEAK = """
import sys, tracemalloc
import numpy as np, skad
x = np.random.default_rng(0).normal(size=int(sys.argv[1])).cumsum()[:, None]
tracemalloc.start()
skad.MatrixProfile(window_size=100).fit(x)
print(tracemalloc.get_traced_memory()[1] / 2**20)
"""


def profile(options):
    """Matrix profiles against STUMPY: warm, in a fresh process, updated by steps."""
    import stumpy

    table = Table("what n m ours_s stumpy_s ratio largest_difference".split())
    skad.MatrixProfile(window_size=100).fit(walk(1000))
    stumpy.stump(walk(1000)[:, 0], m=100)
    for n, m in ((8192, 100), (32768, 100), (32768, 50), (16384, 400)):
        x, times = walk(n), []
        detector = skad.MatrixProfile(window_size=m)
        for _ in range(3):
            ours, _ = cpu_seconds(lambda detector=detector, x=x: detector.fit(x))
            theirs, theirs_profile = cpu_seconds(
                lambda x=x, m=m: stumpy.stump(x[:, 0], m=m)
            )
            times.append((ours, theirs))
        ours, theirs = np.median(times, axis=0)
        gap = np.abs(theirs_profile[:, 0].astype(float) - detector.profile_).max()
        table.add("self-join, warm", n, m, ours, theirs, ours / theirs, gap)
    m = 100
    for what, n, libraries in (
        ("self-join, fresh process", 32768, ("MatrixProfile", "stump")),
        ("left profile, fresh process", 10_000, ("LeftMatrixProfile", "stumpi")),
    ):
        ours, theirs = (float(fresh_process(FRESH, n, m, one)) for one in libraries)
        table.add(what, n, m, ours, theirs, ours / theirs, "")
    x = walk(10_000)
    detector = skad.LeftMatrixProfile(window_size=m)
    ours, _ = cpu_seconds(lambda: detector.fit(x))
    stream = stumpy.stumpi(x[: 2 * m, 0], m=m, egress=False)

    def update():
        for value in x[2 * m :, 0]:
            stream.update(value)

    theirs, _ = cpu_seconds(update)
    found = -detector.score_samples(x)[m - 1 :]
    known = np.isfinite(stream.left_P_)
    gap = np.abs(stream.left_P_ - found)[known].max()
    table.add("left profile, by updates", len(x), m, ours, theirs, ours / theirs, gap)
    for n in (16384, 32768, 65536):
        memory = f"self-join, {float(fresh_process(PEAK, n)):.0f} MB above the data"
        table.add(memory, n, m, "", "", "", "")
    return table


def edges(options):
    """MIDAS on the DARPA stream: edges a second and areas under the curve."""
    data = np.load(pathlib.Path(options.data, "series", "midas", "darpa.npz"))
    X = np.stack([data[name] for name in ("src", "dst", "ts")], axis=1).astype(float)
    table = Table(
        "detector seed edges fit_s edges_per_s roc_auc average_precision".split()
    )
    for name in ("MIDAS", "MIDASR"):
        for seed in range(1, 4):
            detector = getattr(skad, name)(random_state=seed)
            took, _ = cpu_seconds(lambda detector=detector: detector.fit(X))
            anomaly = -detector.score_samples(X)
            table.add(
                name,
                seed,
                len(X),
                took,
                len(X) / took,
                roc_auc_score(data["y"], anomaly),
                average_precision_score(data["y"], anomaly),
            )
    return table


def gpu(options):
    """The matrix profile on a GPU and on the host, in seconds."""
    import torch

    table = Table("device n m seconds".split())
    for device, n in (("cuda", 65536), ("cuda", 524_288), ("cpu", 65536)):
        if device == "cuda" and not torch.cuda.is_available():
            raise SystemExit("this part needs a GPU")
        x = walk(n)
        detector = skad.MatrixProfile(window_size=100, device=device)
        detector.fit(x[:5000])
        start = time.perf_counter()
        detector.fit(x)
        table.add(device, n, 100, time.perf_counter() - start)
    return table


def merged(table, path, only):
    """Write the rows of some detectors into a table that has others already."""
    old = path.read_text().splitlines()
    header = [line for line in old if line.startswith("#")]
    rows = [line.split("\t") for line in old if not line.startswith("#")][1:]
    rows = [row for row in rows if only not in row[1]]
    added = [row for row in table.rows if only in row[1]]
    order = list(dict.fromkeys(row[0] for row in rows + added))
    rows = sorted(rows + added, key=lambda row: order.index(row[0]))
    header += [f"# rows with {only!r}: {'; '.join(machine()[:2])}"]
    lines = ["\t".join(row) for row in [table.columns, *rows]]
    path.write_text("\n".join(header + lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts",
        nargs="+",
        choices="quality published smd scale profile edges gpu".split(),
    )
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument(
        "--only",
        help="part of the names of detectors to run; the rows of others are kept",
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for part in options.parts:
        table = globals()[part](options)
        path = pathlib.Path(__file__).parent / "results" / f"series_{part}.tsv"
        if options.only and path.exists():
            merged(table, path, options.only)
        else:
            table.write(path)


if __name__ == "__main__":
    main()
