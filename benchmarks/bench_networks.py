"""Networks: quality on pictures and tables, time and memory against PyOD and DeepOD.

Run in an environment with the peers (see requirements.txt), with nothing else running:

    OMP_NUM_THREADS=1 python benchmarks/bench_networks.py speed memory start
    OMP_NUM_THREADS=1 python benchmarks/bench_networks.py pictures --data ../shared/data
    python benchmarks/bench_networks.py tables --data ../shared/data
    git worktree add --detach /tmp/before 5cb52cc
    OMP_NUM_THREADS=1 python benchmarks/bench_networks.py step --before /tmp/before \\
        --turns 7

Each part writes ``benchmarks/results/networks_<part>.tsv``.

Pictures: Fashion-MNIST, one class normal, the other nine anomalous. The pictures of the
class in the training set are shuffled with seed 0, and the first so many of them train;
each row says how many. All 10,000 test pictures are scored, or the first so many of
them after shuffling with seed 0. Grey values are brought to 0..1, nothing else is done.
The settings were chosen on classes 0, 4 and 8: those of AutoEncoder and the first of
DeepSVDD with 1,500 of the test pictures, all others with training pictures beyond the
first 5,000 of each class, so without a test picture; those of LINEAR on MNIST.
AutoEncoder came third: smaller
batches replaced settings that reached .9045 over the ten classes, and 44 epochs 28 that
reached .9042. Results are kept after every detector; a detector whose rows are there is
left out, unless it is named.
"""

import argparse
import collections
import os
import pathlib
import statistics
import subprocess
import sys
import time
import warnings
from itertools import pairwise

import numpy as np
from _measure import Table, fresh_process
from bench_tables import real_tables
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import LRScheduler

import skad
from skad._training import TorchDetector


def falling(max_epochs, **parameters):
    """Return settings with a learning rate that falls to zero along a cosine."""
    falls = LRScheduler("CosineAnnealingLR", T_max=max_epochs)
    return {"max_epochs": max_epochs, **parameters, "callbacks": [falls]}


# Chosen on the eights of MNIST, where convolutions, which cost more, rebuild little in
# as long: the ROC AUC of AAE is .80 with them and .86 so.
LINEAR = {
    "architecture": "mlp",
    "hidden_sizes": (256, 64),
    "batch_size": 32,
    "max_epochs": 20,
}
# A network that knows other pictures. Of training pictures beyond the first 5,000,
# classes 0, 4 and 6 are told from others a little better at 56 pixels than at 40, which
# take half as long.
RESNET = {
    "backbone": "weights/resnet18_conv1_to_layer3_bnfolded.npz",
    "layers": ("layer3",),
    "max_epochs": 1,
}
SMALL = {"architecture": "conv", "hidden_sizes": (16, 32)}
# What takes rows gets pictures as rows of 0..1.
AS_ROWS = ("NeuTraL",)
# Settings of a picture task in at most three minutes on two cores: training pictures,
# test pictures, and what differs from the detector's defaults.
PICTURE_SETTINGS = {
    "AutoEncoder": (
        2000,
        10_000,
        falling(44, lr=3e-3, batch_size=16, hidden_sizes=(16, 32, 64), latent_size=8),
    ),
    # codes of random weights: .910 on the three classes, .893 after the pretraining
    "DeepSVDD": (
        2000,
        10_000,
        falling(30, lr=1e-3, hidden_sizes=(16, 32), latent_size=128),
    ),
    "DeepSAD": (
        2000,
        10_000,
        falling(30, lr=1e-3, hidden_sizes=(16, 32), latent_size=128),
    ),
    "DeepSVDD (pretrained)": (
        2000,
        10_000,
        falling(30, lr=1e-3, hidden_sizes=(16, 32), latent_size=32, pretrain_epochs=10),
    ),
    "VAE": (
        2000,
        10_000,
        falling(
            15,
            measure="reconstruction_probability",
            architecture="mlp",
            hidden_sizes=(256, 64),
        ),
    ),
    "GANomaly": (1500, 10_000, {"max_epochs": 12, "hidden_sizes": (16, 32)}),
    # the paper advises thresholds of 1 to 3 over the number of items, here 100
    "MemAE": (
        2000,
        10_000,
        falling(
            20,
            lr=3e-3,
            architecture="mlp",
            hidden_sizes=(256, 64),
            shrink_threshold=0.02,
        ),
    ),
    "RaPP": (2000, 10_000, falling(10, lr=3e-3, hidden_sizes=(16, 32))),
    # the time of GANomaly; their defaults want a GPU
    **{
        name: (1500, 10_000, {"max_epochs": 12, "hidden_sizes": (16, 32)})
        for name in "ALOCC EGBAD SkipGANomaly".split()
    },
    **dict.fromkeys(
        "AAE ADAE ALAD ALAE FAnoGAN GPND HADGAN OCGAN OGNet".split(),
        (1500, 10_000, LINEAR),
    ),
    # what the authors' code has for pictures, but for its networks
    "EGBAD (authors')": (
        1500,
        10_000,
        {
            "max_epochs": 12,
            "hidden_sizes": (16, 32),
            "averaging": 0.999,
            "dropout": 0.5,
            "output_range": "data",
        },
    ),
    # searches a code for each picture
    "AnoGAN": (
        1500,
        500,
        {**LINEAR, "n_search_steps": 100},
    ),
    "RGI": (1500, 500, {**LINEAR, "n_search_steps": 100}),
    # convolutions take minutes a class; the default rate does worse after more epochs
    "DROCC": (2000, 10_000, {"architecture": "mlp", "max_epochs": 10, "lr": 1e-4}),
    # with their defaults
    **dict.fromkeys("GOAD OCNN".split(), (2000, 10_000, {})),
    # convolutions of their own: the papers' residual networks take hours here
    "RotNet": (
        2000,
        2000,
        {**SMALL, "optimizer": "adam", "lr": 1e-3, "max_epochs": 10},
    ),
    "GEOM": (1000, 2000, {**SMALL, "max_epochs": 3}),
    "SSD": (2000, 2000, {**SMALL, "code_size": 128, "max_epochs": 20}),
    # with its own rate .85 of class 8, .56 of class 4, and so .87 and .65
    "CSI": (
        1000,
        1000,
        {
            **SMALL,
            "code_size": 128,
            "optimizer": "adam",
            "lr": 1e-3,
            "max_epochs": 10,
        },
    ),
    "NeuTraL": (2000, 10_000, {}),
    # what they learn hardly counts beside what the network knows: one epoch will do
    "PANDA": (2000, 10_000, {**RESNET, "image_size": 40}),
    "MeanShifted": (2000, 10_000, {**RESNET, "image_size": 56}),
}
# The peers' defaults, with which peers.tsv was made, where ours have such parameters.
PEER_SETTINGS = {
    "AutoEncoder": {
        "hidden_sizes": (64,),
        "latent_size": 32,
        "max_epochs": 10,
        "batch_size": 32,
    },
    "VAE": {
        "hidden_sizes": (128, 64, 32),
        "latent_size": 2,
        "max_epochs": 30,
        "batch_size": 32,
    },
    "DeepSVDD": {
        "hidden_sizes": (64,),
        "latent_size": 32,
        "pretrain_epochs": 0,
        "max_epochs": 100,
        "lr": 1e-4,
        "batch_size": 32,
    },
}
# Training pictures of the next class that are labelled as anomalies, in addition.
KNOWN = {"DeepSAD": 100}
# Rows of 20 features in the speed part, as the peers are measured on.
SPEED_ROWS = 5_000


def networks():
    """Return the names of the detectors on rows that train a network."""
    return [
        name
        for name, cls in skad.all_detectors()
        if issubclass(cls, TorchDetector)
        and cls.__module__.split(".")[1] not in ("image", "ood", "series")
    ]


def one_class_pictures(data, normal, n_train, n_test):
    """Return training pictures of a class, test pictures, and which are anomalous."""
    folder = pathlib.Path(data, "oneclass", "fashion_mnist")
    parts = []
    for part in ("train", "test"):
        with np.load(folder / f"fashion_mnist_{part}.npz") as file:
            parts.append((file["X"], file["y"]))
    (X, y), (Q, labels) = parts
    rng = np.random.default_rng(0)
    train = X[y == normal]
    train = train[rng.permutation(len(train))][:n_train]
    if n_test < len(Q):
        chosen = np.random.default_rng(0).permutation(len(Q))[:n_test]
        Q, labels = Q[chosen], labels[chosen]
    return train, Q, labels != normal


class MeanDistance:
    """Distance to the mean of the training pictures."""

    def fit(self, X, y=None):
        """Compute the mean."""
        self.mean_ = X.mean(axis=0)
        return self

    def score_samples(self, X):
        """Return minus the distances."""
        return -np.linalg.norm(X - self.mean_, axis=1)


# What simple scores reach: training pictures and the detector.
SIMPLE = {
    "distance to the mean": (6000, MeanDistance()),
    "PCA 30": (
        6000,
        skad.PCAReconstruction(30, measure="reconstruction", standardize=False),
    ),
    "KNN 5 of 2,000": (2000, skad.KNN(5)),
}


def picture_rows(name, options):
    """Yield a row for each class, then one of the means."""
    settings, n_test = {}, 10_000
    if name in SIMPLE:
        n_train, detector = SIMPLE[name]
    else:
        n_train, n_test, settings = PICTURE_SETTINGS[name]
        given = dict(settings)
        if "backbone" in given:
            given["backbone"] = str(pathlib.Path(options.data, given["backbone"]))
        detector = getattr(skad, name.split()[0])(
            random_state=0, device=options.device
        ).set_params(**given)
    rows = []
    for normal in options.classes:
        task = one_class_pictures(options.data, normal, n_train, n_test)
        train, test, anomalous = task
        if name in (*SIMPLE, *AS_ROWS):
            train, test = (part.reshape(len(part), -1) / 255.0 for part in task[:2])
        y = None
        if name in KNOWN:  # of one of the nine other classes
            other = one_class_pictures(options.data, (normal + 1) % 10, KNOWN[name], 0)
            y = np.repeat([0, -1], [len(train), KNOWN[name]])
            train = np.concatenate([train, other[0]])
        clocks = [(time.perf_counter(), time.process_time())]
        detector.fit(train, y)
        clocks.append((time.perf_counter(), time.process_time()))
        scores = -detector.score_samples(test)
        clocks.append((time.perf_counter(), time.process_time()))
        times = [b[k] - a[k] for a, b in pairwise(clocks) for k in (0, 1)]
        found = roc_auc_score, average_precision_score
        quality = [score(anomalous, scores) for score in found]
        rows.append([*quality, *times])
        yield name, normal, *rows[-1], n_train, n_test, ""
    means = [statistics.mean(column) for column in zip(*rows, strict=True)]
    notes = [
        f"{parameter}={value}"
        for parameter, value in settings.items()
        if parameter != "callbacks"
    ]
    notes += (
        [f"{KNOWN[name]} known anomalies of the next class"] if name in KNOWN else []
    )
    notes += ["lr falls to 0 along a cosine"] if "callbacks" in settings else []
    yield name, "mean", *means, n_train, n_test, ", ".join(notes)


def pictures(options):
    """Quality on the ten one-against-rest tasks of Fashion-MNIST."""
    path = pathlib.Path(options.out, "networks_pictures.tsv")
    columns = (
        "detector class auc ap fit_s fit_cpu_s score_s score_cpu_s n_train n_test note"
    )
    order = [*SIMPLE, *PICTURE_SETTINGS]
    kept = collections.defaultdict(list)
    if path.exists():
        lines = [line.split("\t") for line in path.read_text().splitlines()]
        for row in lines:
            if row[0] in order:
                kept[row[0]].append(row)
    missing = [one for one in order if one not in kept]
    if options.detectors:
        missing = [
            one for one in missing if one in SIMPLE and one not in options.detectors
        ]
    for name in [*missing, *(options.detectors or ())]:
        table = Table(columns.split())
        for row in picture_rows(name, options):
            table.add(*row)
        kept[name] = table.rows
        floor, mean = kept["distance to the mean"][-1], kept[name][-1]
        if float(mean[2]) < float(floor[2]):
            mean[-1] = f"BELOW THE DISTANCE TO THE MEAN; {mean[-1]}"
        table.rows = [row for one in order for row in kept.get(one, ())]
        table.write(path)


def tables(options):
    """Quality on the shared tables beside the peer's method of the same name.

    Ours run with their defaults and, where the peer's differ, with the peer's layers,
    epochs, learning rate and batches. The peers' figures are those of peers.tsv, or of
    the peer with its defaults. `norm_auc` is what the norm of the standardized row
    reaches, which needs no training.
    """
    figures = {}
    peers = pathlib.Path(options.data, "tabular", "peers.tsv").read_text()
    for line in peers.splitlines()[1:]:
        dataset, setting, method, _, _, auc, *_ = line.split("\t")
        figures[dataset, setting, method] = float(auc)
    table = Table(
        "dataset setting detector settings auc peer_auc difference norm_auc s".split()
    )
    for name in options.detectors or networks():
        variants = {"default": {}}
        if name in PEER_SETTINGS:
            variants["peer's"] = PEER_SETTINGS[name]
        gaps = collections.defaultdict(list)
        for dataset, setting, train, test, y in real_tables(options.data):
            key = dataset, setting, name
            if key not in figures:
                figures[key] = peer_auc(name, train, test, y)
            simple = roc_auc_score(y, (test**2).sum(axis=1))
            for variant, settings in variants.items():
                detector = getattr(skad, name)(
                    random_state=0, device=options.device, **settings
                )
                start = time.process_time()
                auc = roc_auc_score(y, -detector.fit(train).score_samples(test))
                spent, theirs = time.process_time() - start, figures[key]
                row = dataset, setting, name, variant, auc, theirs, auc - theirs
                table.add(*row, simple, spent)
                gaps[setting, variant].append((auc, theirs, simple))
        for (setting, variant), rows in gaps.items():
            known = [row for row in rows if row[1] == row[1]]
            for part in (rows, known) if 0 < len(known) < len(rows) else (rows,):
                ours, theirs, simple = map(statistics.mean, zip(*part, strict=True))
                label = f"mean of {len(part)}"
                row = label, setting, name, variant, ours, theirs, ours - theirs
                table.add(*row, simple, "")
    return table


def peer_auc(name, train, test, y):
    """Return the quality of the peer's method of that name, NaN where there is none."""
    warnings.filterwarnings("ignore")
    if name == "ALAD":
        from pyod.models.alad import ALAD as Peer
    elif name == "AnoGAN" and len(train) < 700:  # it takes hours on the others
        from pyod.models.anogan import AnoGAN as Peer
    else:
        return float("nan")
    import torch

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (the peer draws from it)
    return roc_auc_score(y, Peer().fit(train.copy()).decision_function(test))


def same_work(batch, epochs):
    """Yield (name, ours, the peer's, note) that train the same network the same way.

    Both have the same layers with leaky ReLU between them (ReLU in PyOD's ALAD, tanh in
    its AnoGAN, which have no other), Adam with the same learning rate and weight decay
    (none in those two), no dropout and no batch normalization. Where the peer
    standardizes, a StandardScaler does that for ours. Steps are as many, but for the
    last small batch of an epoch, which PyOD's AutoEncoder and VAE leave out.
    """
    from deepod.models.tabular import DeepSAD as DeepodDeepSAD
    from deepod.models.tabular import DeepSVDD as DeepodDeepSVDD
    from pyod.models.alad import ALAD as PyodALAD
    from pyod.models.anogan import AnoGAN as PyodAnoGAN
    from pyod.models.auto_encoder import AutoEncoder as PyodAutoEncoder
    from pyod.models.deep_svdd import DeepSVDD as PyodDeepSVDD
    from pyod.models.vae import VAE as PyodVAE

    ours = {
        "batch_size": batch,
        "max_epochs": epochs,
        "optimizer": "adam",
        "random_state": 0,
        "device": "cpu",
    }
    decayed = {**ours, "weight_decay": 1e-5}
    n_few = min(epochs, 3)  # the adversarial ones are slow
    few = {**ours, "max_epochs": n_few}
    one_class = {"hidden_sizes": (64,), "latent_size": 32, "lr": 1e-3}
    pyod = {"batch_size": batch, "dropout_rate": 0, "verbose": 0}
    deep = {
        **pyod,
        "epoch_num": epochs,
        "hidden_activation_name": "leaky_relu",
        "batch_norm": False,
        "optimizer_params": {"weight_decay": 1e-5},
    }
    deepod = {
        "epochs": epochs,
        "batch_size": batch,
        "hidden_dims": "64",
        "rep_dim": 32,
        "act": "LeakyReLU",
        "device": "cpu",
        "verbose": 0,
    }
    for scaled in (True, False):
        scale = (StandardScaler(),) if scaled else ()
        raw = "" if scaled else ", rows as they are"
        yield (
            f"AutoEncoder{raw}",
            make_pipeline(
                *scale, skad.AutoEncoder(**decayed, hidden_sizes=(64,), latent_size=32)
            ),
            PyodAutoEncoder(hidden_neuron_list=[64, 32], preprocessing=scaled, **deep),
            "",
        )
        yield (
            f"VAE{raw}",
            make_pipeline(
                *scale,
                skad.VAE(
                    **decayed,
                    hidden_sizes=(64, 32),
                    latent_size=2,
                    variance="shared",
                    n_draws=1,
                ),
            ),
            PyodVAE(
                encoder_neuron_list=[64, 32],
                decoder_neuron_list=[32, 64],
                preprocessing=scaled,
                **deep,
            ),
            "",
        )
    yield (
        "DeepSVDD",
        make_pipeline(StandardScaler(), skad.DeepSVDD(**decayed, **one_class)),
        PyodDeepSVDD(
            n_features=20,
            epochs=epochs,
            hidden_neurons=[64, 32],
            hidden_activation="leaky_relu",
            learning_rate=1e-3,
            l2_regularizer=1e-5,
            **pyod,
        ),
        "scores: the peer, too, takes all rows at once",
    )
    for spectral in (False, True):
        yield (
            f"ALAD{', spectral norm' if spectral else ''}",
            skad.ALAD(**few, hidden_sizes=(64, 32), spectral_norm=spectral),
            PyodALAD(
                epochs=n_few * -(-SPEED_ROWS // batch),  # one step each
                latent_dim=8,
                enc_layers=[64, 32],
                dec_layers=[32, 64],
                disc_xx_layers=[128],
                disc_zz_layers=[32],
                disc_xz_layers=[233, 128],  # as many multiplications as ours
                learning_rate_gen=1e-3,
                learning_rate_disc=1e-3,
                activation_hidden_gen="relu",
                activation_hidden_disc="relu",
                spectral_normalization=spectral,
                **pyod,
            ),
            "scores: the peer, too, takes all rows at once"
            + ("; normalizes fewer layers" if spectral else ""),
        )
    yield (
        "AnoGAN",
        skad.AnoGAN(**few, hidden_sizes=(64, 32), latent_size=16, n_search_steps=20),
        PyodAnoGAN(
            epochs=n_few,
            latent_dim_G=16,
            G_layers=[32, 64],
            D_layers=[64, 32, 64],
            epochs_query=20,
            **pyod,
        ),
        "scores: the peer searches for no code, we take 20 steps",
    )
    yield (
        "DeepOD DeepSVDD",
        skad.DeepSVDD(**decayed, **one_class),
        DeepodDeepSVDD(**deepod),
        "",
    )
    yield (
        "DeepOD DeepSAD",
        skad.DeepSAD(**decayed, **one_class),
        DeepodDeepSAD(**deepod),
        "5 % known anomalies",
    )


def wall_and_processor(function):
    """Return how long one call takes, by the clock and on the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


def speed(options):
    """Fit and score with the peers' layers, epochs, batches and optimizer."""
    warnings.filterwarnings("ignore")
    X = np.random.default_rng(0).normal(size=(SPEED_ROWS, 20)).astype(np.float32)
    known = np.arange(SPEED_ROWS) % 20 == 0
    table = Table("work ours_s peer_s ratio processor_ratio wanted note".split())
    for batch, wanted in ((32, 1.8), (256, 5)):
        for name, ours, peer, note in same_work(batch, epochs=10):
            if options.detectors and name not in options.detectors:
                continue
            labels, peer_labels = (-known.astype(int), known.astype(int))
            if name != "DeepOD DeepSAD":
                labels = peer_labels = None
            work = {
                "fit": (
                    lambda d=ours, y=labels: d.fit(X, y),
                    lambda d=peer, y=peer_labels: d.fit(X, y),
                    wanted,
                ),
                "score": (
                    lambda d=ours: d.score_samples(X),
                    lambda d=peer: d.decision_function(X),
                    20,
                ),
            }
            for what, (mine, theirs, factor) in work.items():
                slow = name == "AnoGAN" and what == "fit"  # minutes
                times = [
                    wall_and_processor(mine) + wall_and_processor(theirs)
                    for _ in range(1 if slow else options.turns)
                ]
                a, a_cpu, b, b_cpu = map(statistics.median, zip(*times, strict=True))
                table.add(
                    f"{name} {what}, batch {batch}",
                    a,
                    b,
                    b / a,
                    b_cpu / a_cpu,
                    factor,
                    note if note.startswith("scores") is (what == "score") else "",
                )
    return table


PEAK = """
import pathlib, re, sys, warnings
import numpy as np
sys.path.insert(0, "benchmarks")
from bench_networks import same_work
warnings.filterwarnings("ignore")
def peak(work):
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    def status(key):
        text = pathlib.Path("/proc/self/status").read_text()
        return int(re.search(key + r":\\s+(\\d+)", text)[1]) / 1024
    before = status("VmRSS")
    work()
    return status("VmHWM") - before
whose, name, n_rows, what = sys.argv[1:]
pairs = {name: pair for name, *pair, _ in same_work(batch=256, epochs=1)}
detector = pairs[name][whose == "peer"]
score = detector.score_samples if whose == "ours" else detector.decision_function
if what == "score" and whose == "ours" and n_rows == "1000000":
    score = getattr(detector, "steps", [(None, detector)])[-1][1].score_samples
X = np.random.default_rng(0).normal(size=(int(n_rows), 20)).astype(np.float32)
y = None
if name == "DeepOD DeepSAD":
    y = np.where(np.arange(len(X)) % 20, 0, -1 if whose == "ours" else 1)
few = 512
detector.fit(X[:few], y if y is None else y[:few])  # starts what starts lazily
if what == "fit":
    print(peak(lambda: detector.fit(X, y)))
else:
    print(peak(lambda: score(X)))
"""


def memory(options):
    """Peak memory above the data and what is loaded, in megabytes."""
    table = Table("work ours_mb peer_mb wanted note".split())
    for name, _, _, note in same_work(batch=256, epochs=1):
        if options.detectors and name not in options.detectors:
            continue
        # a fit of the peer's AnoGAN takes milliseconds a row
        for what, n_rows in (
            ("fit", 500 if name == "AnoGAN" else 50_000),
            ("score", 50_000),
        ):
            ours, theirs = (
                float(fresh_process(PEAK, whose, name, n_rows, what))
                for whose in ("ours", "peer")
            )
            shown = note if note.startswith("scores") is (what == "score") else ""
            table.add(
                f"{name} {what} {n_rows:,}", ours, theirs, "at most theirs", shown
            )
        ours = float(fresh_process(PEAK, "ours", name, 1_000_000, "score"))
        table.add(f"{name} score 1,000,000", ours, "", "bounded", "8 MB are the scores")
    return table


FIRST = """
import sys, time
import numpy as np, sklearn.base, torch
X = np.random.default_rng(0).normal(size=(5_000, 20)).astype(np.float32)
clocks = time.perf_counter, time.process_time
start = [clock() for clock in clocks]
if sys.argv[1] == "ours":
    import skad
    detector = skad.AutoEncoder(
        hidden_sizes=(64,), latent_size=32, max_epochs=1, batch_size=256, device="cpu"
    )
    detector.fit(X)
else:
    sizes = 20, 64, 32, 64, 20
    layers = []
    for wide, narrow in zip(sizes, sizes[1:]):
        layers += [torch.nn.Linear(wide, narrow), torch.nn.LeakyReLU(0.1)]
    net = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.AdamW(net.parameters())
    for x in torch.from_numpy(X).split(256):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(net(x), x).backward()
        optimizer.step()
print(*(clock() - before for clock, before in zip(clocks, start)))
"""


def start(options):
    """First fit of a fresh process beside the first training steps of bare torch."""
    table = Table("work ours_s torch_s ratio processor_ratio wanted".split())
    times = [
        [
            float(value)
            for whose in ("ours", "torch")
            for value in fresh_process(FIRST, whose).split()
        ]
        for _ in range(options.turns)
    ]
    a, a_cpu, b, b_cpu = map(statistics.median, zip(*times, strict=True))
    work = "AutoEncoder, first fit with its imports, torch imported before"
    table.add(work, a, b, a / b, a_cpu / b_cpu, "at most 1")
    return table


STEP = """
import sys, time, warnings
import numpy as np, torch
warnings.filterwarnings("ignore")
torch.set_num_threads(1)
import skad
name, few, many = sys.argv[1], 2, 8
X = np.random.default_rng(0).normal(size=(5_000, 20)).astype(np.float32)
settings = {"batch_size": 32, "device": "cpu", "random_state": 0, "contamination": 0.1}
if name == "DeepSVDD":  # as the defaults once were
    settings |= {"pretrain_epochs": 0, "hidden_sizes": (64, 32), "latent_size": 32}
def seconds(n_epochs):
    detector = getattr(skad, name)(max_epochs=n_epochs, **settings)
    start = time.process_time()
    detector.fit(X)
    return time.process_time() - start
seconds(1)  # what starts lazily
short = seconds(few)
print((seconds(many) - short) / ((many - few) * -(-len(X) // 32)))
"""


def step(options):
    """CPU microseconds of a training step, beside those of a checkout from before."""
    table = Table("work median_us before_us ratio least_ratio wanted".split())
    root = pathlib.Path(__file__).parents[1]
    for name in options.detectors or ("AutoEncoder", "VAE", "GANomaly", "DeepSVDD"):
        found = {root: [], pathlib.Path(options.before).resolve(): []}
        for _ in range(options.turns):
            for path, spent in found.items():
                done = subprocess.run(
                    [sys.executable, "-c", STEP, name],
                    check=True,
                    capture_output=True,
                    text=True,
                    cwd=path,
                    env={**os.environ, "PYTHONPATH": str(path)},
                )
                spent.append(1e6 * float(done.stdout.split()[-1]))
        now, before = found.values()
        a, b = statistics.median(now), statistics.median(before)
        table.add(
            f"{name}, a step", a, b, a / b, min(now) / min(before), "at most 1.05"
        )
    return table


def main():
    """Run the parts that the command line names."""
    parts = {f.__name__: f for f in (pictures, tables, speed, memory, start, step)}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--data", default="../shared/data", help="shared data")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--detectors", nargs="*", help="only these")
    parser.add_argument("--classes", nargs="*", type=int, default=list(range(10)))
    parser.add_argument("--turns", type=int, default=3, help="runs of each in speed")
    parser.add_argument("--before", help="a checkout of another version, for step")
    parser.add_argument("--out", default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args()
    for part in options.parts:
        table = parts[part](options)
        if table is not None:  # the part did not write it itself
            table.write(pathlib.Path(options.out) / f"networks_{part}.tsv")


if __name__ == "__main__":
    main()
