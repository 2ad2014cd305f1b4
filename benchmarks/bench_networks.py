"""Networks: quality on pictures and tables, time and memory against PyOD and DeepOD.

Run in an environment with the peers (see requirements.txt), with nothing else running:

    OMP_NUM_THREADS=1 python benchmarks/bench_networks.py speed memory
    python benchmarks/bench_networks.py pictures --data ../shared/data --device cuda
    python benchmarks/bench_networks.py tables --data ../shared/data

Each part writes ``benchmarks/results/networks_<part>.tsv``.

Pictures: Fashion-MNIST, one class normal, the other nine anomalous. The first
``--pictures`` training pictures of the class, shuffled with seed 0, train; all 10,000
test pictures are scored. Grey values are brought to 0..1, nothing else is done.
"""

import argparse
import collections
import pathlib
import statistics

import numpy as np
from _measure import Table, fresh_process, in_turns, seconds
from bench_tables import PEAK, real_tables
from sklearn.metrics import average_precision_score, roc_auc_score

import skad
from skad._torch import TorchDetector

# Training epochs of a picture task where a detector's default asks for other ones.
PICTURE_SETTINGS = {}


def networks():
    """Return the names of the detectors that train a network."""
    return [
        name for name, cls in skad.all_detectors() if issubclass(cls, TorchDetector)
    ]


def pictures(options):
    """Quality on the ten one-against-rest tasks of Fashion-MNIST."""
    folder = pathlib.Path(options.data, "oneclass", "fashion_mnist")
    parts = {}
    for part in ("train", "test"):
        with np.load(folder / f"fashion_mnist_{part}.npz") as data:
            parts[part] = data["X"], data["y"]
    (X, y), (Q, labels) = parts["train"], parts["test"]
    table = Table("detector class auc ap fit_s score_s".split())
    means = collections.defaultdict(list)
    simple = {
        "distance to the mean": lambda rows: skad.Mahalanobis(),
        "PCA 30": lambda rows: skad.PCAReconstruction(
            30, measure="reconstruction", standardize=False
        ),
        "KNN 5 of 2,000": lambda rows: skad.KNN(5),
    }
    names = options.detectors or [*simple, *networks()]
    for name in names:
        for normal in options.classes:
            rows = X[y == normal]
            rows = rows[np.random.default_rng(0).permutation(len(rows))]
            rows = rows[: options.pictures]
            truth = labels != normal
            if name in simple:
                train = rows.reshape(len(rows), -1) / 255.0
                test = Q.reshape(len(Q), -1) / 255.0
                if name == "distance to the mean":
                    scores = -np.linalg.norm(test - train.mean(axis=0), axis=1)
                    time_fit = time_score = 0.0
                else:
                    train = train[:2000] if "2,000" in name else train
                    detector = simple[name](train)
                    time_fit = seconds(lambda d=detector, r=train: d.fit(r))
                    scores = detector.score_samples(test)
                    time_score = 0.0
            else:
                detector = getattr(skad, name)(
                    random_state=0,
                    device=options.device,
                    **PICTURE_SETTINGS.get(name, {}),
                )
                time_fit = seconds(lambda d=detector, r=rows: d.fit(r))
                found = []
                time_score = seconds(
                    lambda d=detector, f=found: f.append(d.score_samples(Q))
                )
                scores = found[0]
            auc = roc_auc_score(truth, -scores)
            means[name].append(auc)
            table.add(
                name,
                normal,
                auc,
                average_precision_score(truth, -scores),
                time_fit,
                time_score,
            )
        note = ""
        if len(options.classes) == 10 and name not in simple:
            floor = statistics.mean(means.get("distance to the mean", [0.893]))
            low = statistics.mean(means[name]) < floor
            note = "learned nothing beyond the distance to the mean" if low else ""
        table.add(name, "mean", statistics.mean(means[name]), note, "", "")
    return table


def tables(options):
    """Quality on the shared tables beside the peer's figures."""
    figures = {}
    peers = pathlib.Path(options.data, "tabular", "peers.tsv").read_text()
    for line in peers.splitlines()[1:]:
        dataset, setting, method, _, _, auc, *_ = line.split("\t")
        figures[dataset, setting, method] = float(auc)
    table = Table("dataset setting detector auc peer_auc difference fit_s".split())
    gaps = collections.defaultdict(list)
    for name in options.detectors or networks():
        for dataset, setting, train, test, y in real_tables(options.data):
            detector = getattr(skad, name)(random_state=0, device=options.device)
            time_fit = seconds(lambda d=detector, r=train: d.fit(r))
            auc = roc_auc_score(y, -detector.score_samples(test))
            theirs = figures.get((dataset, setting, name), float("nan"))
            table.add(dataset, setting, name, auc, theirs, auc - theirs, time_fit)
            gaps[name, setting].append((auc, theirs))
        for setting in ("semi", "unsup"):
            ours, theirs = (
                statistics.mean(column)
                for column in zip(*gaps[name, setting], strict=True)
            )
            table.add("mean", setting, name, ours, theirs, ours - theirs, "")
    return table


def speed(options):
    """Fit and score with the peers' layers, epochs, batches and optimizer."""
    import warnings

    warnings.filterwarnings("ignore")
    from pyod.models.alad import ALAD as PyodALAD
    from pyod.models.anogan import AnoGAN as PyodAnoGAN
    from pyod.models.auto_encoder import AutoEncoder as PyodAutoEncoder
    from pyod.models.deep_svdd import DeepSVDD as PyodDeepSVDD
    from pyod.models.vae import VAE as PyodVAE

    X = np.random.default_rng(0).normal(size=(5_000, 20)).astype(np.float32)
    sizes, epochs = (64, 32), 3
    table = Table("work ours_s peer_s ratio wanted".split())
    for batch, wanted in ((32, 1.8), (256, 5)):
        ours = {"max_epochs": epochs, "batch_size": batch, "random_state": 0}
        peer = {"batch_size": batch, "contamination": 0.1}
        pairs = {
            "AutoEncoder": (
                skad.AutoEncoder(**ours, hidden_sizes=sizes, latent_size=32),
                PyodAutoEncoder(
                    epoch_num=epochs,
                    hidden_neuron_list=[64, 32],
                    batch_norm=False,
                    dropout_rate=0,
                    verbose=0,
                    **peer,
                ),
            ),
            "VAE": (
                skad.VAE(**ours, hidden_sizes=sizes, latent_size=2),
                PyodVAE(
                    epoch_num=epochs,
                    encoder_neuron_list=[64, 32],
                    decoder_neuron_list=[32, 64],
                    batch_norm=False,
                    dropout_rate=0,
                    verbose=0,
                    **peer,
                ),
            ),
            "DeepSVDD": (
                skad.DeepSVDD(
                    **ours, hidden_sizes=(64,), latent_size=32, pretrain_epochs=0
                ),
                PyodDeepSVDD(
                    n_features=20,
                    epochs=epochs,
                    hidden_neurons=[64, 32],
                    dropout_rate=0,
                    verbose=0,
                    **peer,
                ),
            ),
            "ALAD": (
                skad.ALAD(**ours),
                PyodALAD(epochs=epochs, verbose=0, **peer),
            ),
            "AnoGAN": (
                skad.AnoGAN(**ours),
                PyodAnoGAN(epochs=epochs, verbose=0, **peer),
            ),
        }
        for name, (mine, theirs) in pairs.items():
            if options.detectors and name not in options.detectors:
                continue
            rows = X[:300] if name == "AnoGAN" else X
            fits = in_turns(
                lambda d=mine, r=rows: d.fit(r), lambda d=theirs, r=rows: d.fit(r), 3
            )
            table.add(f"{name} fit, batch {batch}", *fits, fits[1] / fits[0], wanted)
            scores = in_turns(
                lambda d=mine, r=rows: d.score_samples(r),
                lambda d=theirs, r=rows: d.decision_function(r),
                3,
            )
            table.add(
                f"{name} score, batch {batch}", *scores, scores[1] / scores[0], 20
            )
    return table


def memory(options):
    """Peak memory above the data: fit at 50,000 rows, scores at 1,000,000."""
    code = (
        PEAK.replace("50_000", "1_000_000")
        .replace(
            "detector.fit(X)",
            "detector.set_params(max_epochs=1, random_state=0).fit(X[:5_000])",
        )
        .replace("detector.transform(X[:1000])", "None")
    )
    table = Table("detector fit_mb score_1000000_mb".split())
    for name in options.detectors or networks():
        table.add(name, *map(float, fresh_process(code, name).split()))
    return table


def main():
    """Run the parts that the command line names."""
    parts = {f.__name__: f for f in (pictures, tables, speed, memory)}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--data", default="../shared/data", help="shared data")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--detectors", nargs="*", help="only these")
    parser.add_argument("--classes", nargs="*", type=int, default=list(range(10)))
    parser.add_argument("--pictures", type=int, default=6000, help="training pictures")
    parser.add_argument("--out", default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args()
    for part in options.parts:
        table = parts[part](options)
        table.write(pathlib.Path(options.out) / f"networks_{part}.tsv")


if __name__ == "__main__":
    main()
