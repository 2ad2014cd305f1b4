"""Detectors around a classifier: speed and quality against pytorch-ood.

Run where pytorch-ood 0.4.0 can be imported, with nothing else running:

    OMP_NUM_THREADS=1 python benchmarks/bench_ood.py speed passes
    OMP_NUM_THREADS=1 python benchmarks/bench_ood.py digits --data ../shared/data
    OMP_NUM_THREADS=1 python benchmarks/bench_ood.py fashion --data ../shared/data

Parts:

- speed: features of 256 and 10 classes, 20,000 rows fitted and 10,000 scored. Ours
  takes features as any input, validated, through a last layer where a method has one,
  or "ready": extracted before, as the peer gets its tensors. Seconds are CPU seconds of
  this process, which other work on the machine disturbs less; medians of turns A B C A
  B C. Neighbours score 2,000 rows only. The peer computes in single precision always,
  so that rows with float32 are like for like.
- passes: what each method adds to the pass through a small convolutional network and
  through a wider one, beside the pass itself.
- digits: networks trained on digits 0 to 4, scored on them and on 5 to 9, three seeds,
  beside the peer's scores of networks that were trained the same way. Activations of
  the "cnn" are shaped (ReAct, ASH, SCALE) before they are averaged over place, as the
  peer's are; "default" are ours with their defaults, after it.
- trained: classifiers that are trained to know outliers, on digits 0 to 4, beside
  scores of a plain network; those that learn from known outliers get half of 5 and 6,
  and all are scored on 7 to 9, which none has seen. Needs neither data nor the peer.
- fashion: a network trained with skorch on Fashion-MNIST, scored on it and on MNIST,
  beside the peer on the same network.

Each writes a table ``ood_<part>.tsv`` into ``benchmarks/results``.
"""

import argparse
import gzip
import pathlib
import statistics
import time
import warnings

import numpy as np
import torch
from _measure import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skad import GMM, metrics, ood
from skad._array import to_numpy
from skad.ood._exposed_classifier import ExposedClassifier
from skad.ood._trained import TrainedClassifier

N_FIT, N_SCORED, WIDTH, N_CLASSES = 20_000, 10_000, 256, 10


def peer():
    """Return pytorch-ood's detectors, or None; torchvision may lack its operators."""
    try:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(
                f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        peer.library = library  # is undone when it is collected
    except RuntimeError:
        pass  # they are there
    try:
        import pytorch_ood.detector
    except ImportError:
        return None
    return pytorch_ood.detector


def cpu_seconds(functions, turns):
    """Return the median CPU seconds of functions called in turns, after a warm-up."""
    times = [[] for _ in functions]
    for turn in range(turns + 1):
        for function, own in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            if turn:
                own.append(time.process_time() - start)
    return [statistics.median(own) for own in times]


def made_features():
    """Return features of rows to fit and to score, classes, and a last layer."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(N_CLASSES, WIDTH))
    mixing = rng.normal(size=(WIDTH, WIDTH)) / 16 * np.geomspace(1, 0.1, WIDTH)
    y = np.arange(N_FIT) % N_CLASSES
    X = means[y] + rng.normal(size=(N_FIT, WIDTH)) @ mixing
    scored = means[rng.integers(N_CLASSES, size=N_SCORED)]
    scored = scored + 1.3 * rng.normal(size=(N_SCORED, WIDTH)) @ mixing
    torch.manual_seed(0)
    layer = torch.nn.Linear(WIDTH, N_CLASSES)
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(means / 8))
    return X, y, scored, layer


# (method, settings, whether it looks through a last layer, wanted ratio of scoring)
SPEED = [
    ("MahalanobisOOD", {}, False, 3),
    ("RelativeMahalanobis", {}, False, 2),
    ("KNNOOD", {}, False, 1),
    ("ViM", {}, True, 1),
    ("GradNorm", {}, True, 20),
    ("OpenMax", {"tail_size": 25}, True, 20),
]


def peers_of(name, X, y, layer):
    """Return (fit, score) of the peer; both take no work from each other."""
    d = peer()
    x, labels = torch.as_tensor(X).float(), torch.as_tensor(y)
    with torch.no_grad():
        z = layer(x)
    if name == "GradNorm":
        model = torch.nn.Sequential(layer)
        made = d.GradNorm(model, param_filter=lambda part: part.endswith("weight"))
        return (lambda: None), lambda rows: made.predict(rows)
    if name == "ViM":
        made = d.ViM(None, WIDTH // 2, layer.weight, layer.bias)
    elif name == "OpenMax":
        made = d.OpenMax(None, tailsize=25, alpha=10)
        score = lambda rows: made.predict_logits(layer(rows).detach())  # noqa: E731
        return (lambda: made.fit_logits(z, labels)), score
    else:
        names = {"MahalanobisOOD": "Mahalanobis", "RelativeMahalanobis": "RMD"}
        made = getattr(d, names.get(name, "KNN"))(None)
        if name == "KNNOOD":
            made.knn.set_params(n_jobs=1)
    return (lambda: made.fit_features(x, labels)), made.predict_features


def speed(options):
    """Fit and score on features, against the peer."""
    table = Table(
        "method dtype fit_cpu_s ready_fit_cpu_s peer_fit_cpu_s fit_ratio"
        " ready_fit_ratio score_cpu_s ready_score_cpu_s peer_score_cpu_s score_ratio"
        " ready_score_ratio wanted one_minus_correlation".split()
    )
    data = made_features()
    for name, settings, through, wanted in SPEED:
        if options.only and name not in options.only:
            continue
        turns = 1 if name == "KNNOOD" else options.turns
        for dtype in (np.float32, np.float64):
            row = measured(name, settings, through, dtype, turns, data)
            table.add(name, np.dtype(dtype).name, *row[:-1], wanted, row[-1])
    return table


def measured(name, settings, through, dtype, turns, data):
    """Return a row of `speed`: seconds, ratios, and how far the scores agree."""
    X, y, scored, layer = data
    rows, probe = X.astype(dtype), scored.astype(dtype)
    ours = getattr(ood, name)(layer if through else None, **settings)
    fit, score = peers_of(name, X, y, layer)
    if name == "KNNOOD":
        scored = scored[:2000]
        probe = probe[:2000]
    tensor = torch.as_tensor(scored).float()
    # where features and logits are there already, as in a comparison of methods
    ready = [ood.extract(ours.classifier, part) for part in (rows, probe)]
    fits = cpu_seconds(
        [lambda: ours.fit(rows, y), lambda: ours.fit(ready[0], y), fit],
        max(1, turns // 3),
    )
    scores = cpu_seconds(
        [
            lambda: ours.score_samples(probe),
            lambda: ours.score_samples(ready[1]),
            lambda: score(tensor),
        ],
        turns,
    )
    a, b = -ours.score_samples(probe), np.asarray(score(tensor), dtype=float)
    found = []
    for times in (fits, scores):
        peers = times[2]
        ratios = [peers / own if peers > 1e-4 else "-" for own in times[:2]]
        found += [*times, *ratios]
    return [*found, 1 - np.corrcoef(a, b)[0, 1]]


class SmallConv(torch.nn.Module):
    """A convolutional classifier of pictures with one channel."""

    def __init__(self, channels=(16, 32), n_classes=10, dropout=0.2):
        super().__init__()
        first, second = channels
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(1, first, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(first, second, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(second, second, 3, padding=1),
            torch.nn.ReLU(),
        )
        self.drop = torch.nn.Dropout(dropout)
        self.fc = torch.nn.Linear(second, n_classes)

    def forward(self, x):
        """Return logits (b, c)."""
        return self.fc(self.drop(self.body(x).mean(dim=(2, 3))))


def passes(options):
    """What k methods cost beside one pass through a network."""
    table = Table(["channels", "rows", "method", "cpu_s", "of_a_pass", "wanted"])
    for channels, n_fitted, n_scored in (
        ((16, 32), 4000, 2000),
        ((64, 128), 2000, 500),
    ):
        names = f"{channels[0]}-{channels[1]}", n_scored
        for row in passes_through(channels, n_fitted, n_scored):
            table.add(*names, *row)
    return table


def passes_through(channels, n_fitted, n_scored):
    """Yield (method, seconds, share of the pass, wanted share) for one network."""
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(n_fitted, 28, 28)).astype(np.float32)
    y = np.arange(n_fitted) % 10
    torch.manual_seed(0)
    net = SmallConv(channels).eval()
    probe = rng.uniform(size=(n_scored, 28, 28)).astype(np.float32)
    tensor = torch.as_tensor(probe)[:, None]

    def forward():
        with torch.no_grad():
            for part in tensor.split(128):
                net(part)

    outputs = ood.extract(net, X)
    ready = ood.extract(net, probe)
    one, ours = cpu_seconds([forward, lambda: ood.extract(net, probe)], 3)
    yield "the pass alone", one, 1.0, "-"
    yield "extract", ours, ours / one, "-"
    total = ours
    for name in METHODS:
        detector = getattr(ood, name)(net).fit(outputs, y)
        [own] = cpu_seconds([lambda d=detector: d.score_samples(ready)], 3)
        total += own
        yield name, own, own / one, 0.1
    yield f"all {len(METHODS)} together", total, total / one, "-"


# methods that look at outputs alone
METHODS = (
    "ASH DICE Energy Entropy GEN GradNorm KLMatching KNNOOD MahalanobisOOD MaxLogit"
    " MaxSoftmax NNGuide OODDetector OpenMax PNML ReAct RelativeMahalanobis SCALE SHE"
    " TemperatureScaling ViM"
).split()


# ---------------------------------------------------------------------------- quality

# (row, method, settings, the peer's name in the shared scores of digits)
QUALITY = [
    ("MaxSoftmax", "MaxSoftmax", {}, "MSP"),
    ("MaxLogit", "MaxLogit", {}, "MaxLogit"),
    ("Energy", "Energy", {}, "Energy"),
    ("Entropy", "Entropy", {}, "Entropy"),
    ("GEN", "GEN", {}, "GEN"),
    ("KLMatching", "KLMatching", {}, "KLMatching"),
    ("OpenMax", "OpenMax", {"tail_size": 25}, "OpenMax"),
    ("ODIN, epsilon 0.0014", "ODIN", {}, "ODIN_eps=.0014_T=1000"),
    ("ODIN, epsilon 0.02", "ODIN", {"epsilon": 0.02}, "ODIN_eps=.02_T=1000"),
    ("MahalanobisOOD", "MahalanobisOOD", {}, "Mahalanobis"),
    ("MahalanobisOOD, 0.02", "MahalanobisOOD", {"epsilon": 0.02}, "MahaODIN_eps=.02"),
    ("RelativeMahalanobis", "RelativeMahalanobis", {}, "RMD"),
    ("KNNOOD, 1", "KNNOOD", {"n_neighbors": 1}, "KNN_k=1"),
    ("KNNOOD, 5", "KNNOOD", {"n_neighbors": 5}, "KNN_k=5"),
    ("KNNOOD, 50", "KNNOOD", {}, "KNN_k=50"),
    ("ViM", "ViM", {}, "ViM_d=16"),
    ("ViM, 8", "ViM", {"n_components": 8}, "ViM_d=8"),
    ("SHE", "SHE", {}, "SHE"),
    ("NNGuide", "NNGuide", {}, "NNGuide"),
    ("ReAct", "ReAct", {}, "ReAct_p=.9"),
    ("DICE, 0.9", "DICE", {}, "DICE_p=.9"),
    ("DICE, 0.5", "DICE", {"sparsity": 0.5}, "DICE_p=.5"),
    ("ASH-S", "ASH", {"pruned": 0.65}, "ASH-S_.65"),
    ("ASH-B", "ASH", {"pruned": 0.65, "variant": "b"}, "ASH-B_.65"),
    ("ASH-P", "ASH", {"pruned": 0.65, "variant": "p"}, "ASH-P_.65"),
    ("SCALE", "SCALE", {"pruned": 0.65}, "SCALE_.65"),
    ("GradNorm", "GradNorm", {}, "GradNorm_fc"),
    ("PNML", "PNML", {}, "PNML"),
    (
        "OODDetector, GMM per class",
        "OODDetector",
        {"detector": GMM(), "per_class": True},
        "GMM",
    ),
]


class SmallMLP(torch.nn.Module):
    """A classifier of rows."""

    def __init__(self):
        super().__init__()
        linear, relu = torch.nn.Linear, torch.nn.ReLU
        self.body = torch.nn.Sequential(linear(64, 64), relu(), linear(64, 32), relu())
        self.drop = torch.nn.Dropout(0.2)
        self.fc = linear(32, 5)

    def forward(self, x):
        """Return logits (b, c)."""
        return self.fc(self.drop(self.body(x)))


def trained_on_digits(kind, X, y, seed):
    """Return a network trained for 60 epochs with Adam, batches of 64."""
    torch.manual_seed(seed)
    net = SmallMLP() if kind == "mlp" else SmallConv(n_classes=5)
    rows = torch.as_tensor(X) if kind == "mlp" else torch.as_tensor(X)[:, None]
    labels = torch.as_tensor(y)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    order = torch.Generator().manual_seed(seed)
    net.train()
    for _ in range(60):
        for batch in torch.randperm(len(rows), generator=order).split(64):
            loss = torch.nn.functional.cross_entropy(net(rows[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


def digits(options):
    """Digits 0 to 4 against 5 to 9, end to end, beside the peer's figures."""
    table = Table(
        "network method auroc_seed_0 auroc_seed_1 auroc_seed_2 mean peer_mean"
        " difference".split()
    )
    images, kinds = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    inside = np.flatnonzero(kinds < 5)
    train, test = train_test_split(
        inside, test_size=0.4, stratify=kinds[inside], random_state=0
    )
    probe = np.concatenate([test, np.flatnonzero(kinds >= 5)])
    y_test = np.where(kinds[probe] < 5, 1, -1)
    X, P, y = images[train], images[probe], kinds[train]
    folder = pathlib.Path(options.data) / "ood"
    for kind in options.networks:
        found, theirs = {}, {}
        shape = None if kind == "mlp" else (8, 8)
        for seed in range(3):
            rows = X if kind == "mlp" else X.reshape(-1, 8, 8)
            net = trained_on_digits(kind, rows, y, seed)
            known = [
                ood.extract(net, part.astype(float), image_shape=shape)
                for part in (X, P)
            ]
            shared = np.load(folder / f"{kind}_{seed}.npz")
            for name, method, settings, name_there in QUALITY:
                if kind == "cnn" and method in ("ReAct", "ASH", "SCALE"):
                    settings = {**settings, "layer": "body.6"}
                detector = getattr(ood, method)(net, image_shape=shape, **settings)
                scores = detector.fit(known[0], y).score_samples(known[1])
                found.setdefault(name, []).append(metrics.auroc(y_test, -scores))
                parts = [shared[f"s_{p}|{name_there}"] for p in ("test", "ood")]
                there = np.repeat([1, -1], [len(part) for part in parts])
                peers = np.concatenate(parts)
                auc = metrics.auroc(there, peers.astype(float))
                theirs.setdefault(name, []).append(auc)
            for method in ("ASH", "SCALE"):
                detector = getattr(ood, method)(net, image_shape=shape).fit(known[0], y)
                area = metrics.auroc(y_test, -detector.score_samples(known[1]))
                found.setdefault(f"{method}, default", []).append(area)
            own = trained_here(X, y, P, shape, seed) if kind == "mlp" else ()
            for name, scores in own:
                found.setdefault(name, []).append(metrics.auroc(y_test, -scores))
        for name, values in found.items():
            mean = statistics.mean(values)
            peers = statistics.mean(theirs[name]) if name in theirs else "-"
            gap = mean - peers if name in theirs else "-"
            table.add(kind, name, *values, mean, peers, gap)
    return table


def trained_here(X, y, P, shape, seed):
    """Yield (name, scores) of the methods that train a network of their own."""
    settings = {
        "max_epochs": 60,
        "batch_size": 64,
        "image_shape": shape,
        "random_state": seed,
    }
    for head in ("cosine", "euclidean", "inner"):
        detector = ood.GeneralizedODIN(head=head, **settings).fit(X, y)
        yield f"GeneralizedODIN, {head}", detector.score_samples(P)
    # what is known are digits upside down, not those that are scored
    turned = X.reshape(-1, 8, 8)[:, ::-1].reshape(len(X), -1)
    both = np.concatenate([X, turned])
    detector = ood.OutlierExposure(**settings)
    detector.fit(both, np.r_[y, y], y_ood=np.repeat([1, -1], len(X)))
    yield "OutlierExposure, digits upside down", detector.score_samples(P)


# (row, method, settings)
TRAINED = [
    ("MaxSoftmax", "MaxSoftmax", {}),
    ("Energy", "Energy", {}),
    ("RelativeMahalanobis", "RelativeMahalanobis", {}),
    ("MahalanobisOOD", "MahalanobisOOD", {}),
    ("MahalanobisOOD(normalize=True)", "MahalanobisOOD", {"normalize": True}),
    ("KNNOOD(n_neighbors=5)", "KNNOOD", {"n_neighbors": 5}),
    ("FDBD", "FDBD", {}),
    ("NCI", "NCI", {}),
    ("NECO", "NECO", {}),
    ("RelationOOD", "RelationOOD", {}),
    ("RelationOOD(power=8)", "RelationOOD", {"power": 8.0}),
    ("LogitNorm", "LogitNorm", {}),
    ("BoundaryGZSL", "BoundaryGZSL", {}),
    ("SoftLabeling", "SoftLabeling", {}),
    ("SoftLabeling(incorrect='zero')", "SoftLabeling", {"incorrect": "zero"}),
    (
        "SoftLabeling(teacher=OutlierExposure,smoothing=0.9,temperature=4)",
        "SoftLabeling",
        {"teacher": "exposed", "smoothing": 0.9, "temperature": 4.0},
    ),
    ("EDL", "EDL", {}),
    ("EDL(evidence='relu')", "EDL", {"evidence": "relu"}),
    ("LearnedConfidence", "LearnedConfidence", {}),
    ("GeneralizedODIN", "GeneralizedODIN", {}),
    ("ACET(n_steps=0)", "ACET", {"n_steps": 0}),
    ("ACET", "ACET", {}),
    ("VOS", "VOS", {"pretrain_epochs": 24, "max_epochs": 36}),
    ("ConfidentClassifier", "ConfidentClassifier", {}),
    ("OutlierExposure", "OutlierExposure", {}),
    ("OECC", "OECC", {"pretrain_epochs": 60, "max_epochs": 15}),
    ("DirichletPrior", "DirichletPrior", {}),
    ("DirichletPrior(measure='precision')", "DirichletPrior", {"measure": "precision"}),
    (
        "DirichletPrior(loss='reverse_kl',measure='precision')",
        "DirichletPrior",
        {"loss": "reverse_kl", "measure": "precision"},
    ),
]


def trained(options):
    """Digits 0 to 4 against 7 to 9, by networks of one size."""
    X, kinds = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    inside = np.flatnonzero(kinds < 5)
    train, test = train_test_split(
        inside, test_size=0.4, stratify=kinds[inside], random_state=0
    )
    outliers = X[np.flatnonzero((kinds == 5) | (kinds == 6))[::2]]
    probe = np.concatenate([test, np.flatnonzero(kinds > 6)])
    y_test = np.where(kinds[probe] < 5, 1, -1)
    table = Table(
        "method around known_outliers auroc_seed_0 auroc_seed_1 auroc_seed_2 mean"
        " accuracy fit_cpu_s".split()
    )
    fit = {"max_epochs": 60, "batch_size": 64, "contamination": 0.1}
    plain = [
        ood.OutlierExposure(**fit, random_state=seed).fit(X[train], kinds[train])
        for seed in range(3)
    ]
    exposed = [
        ood.OutlierExposure(**fit, random_state=seed).fit(
            X[train], kinds[train], X_outliers=outliers
        )
        for seed in range(3)
    ]
    for name, method, given in TRAINED:
        areas, right, seconds = [], [], []
        cls = getattr(ood, method)
        for seed in range(3):
            settings = dict(given)
            if settings.get("teacher") == "exposed":
                settings["teacher"] = exposed[seed].net_
            start, known = time.process_time(), {}
            if issubclass(cls, TrainedClassifier):
                detector = cls(**{**fit, **settings, "random_state": seed})
                if issubclass(cls, ExposedClassifier):
                    known = {"X_outliers": outliers}
            else:
                detector = cls(plain[seed].net_, contamination=0.1, **settings)
            detector.fit(X[train], kinds[train], **known)
            seconds.append(time.process_time() - start)
            scores = detector.score_samples(X[probe])
            areas.append(metrics.auroc(y_test, -scores))
            detector.offset_ = -np.inf  # rejects nothing
            found = detector.predict_with_rejection(X[test])
            right.append((found == kinds[test]).mean())
        around = "itself" if issubclass(cls, TrainedClassifier) else "plain network"
        table.add(
            name,
            around,
            "its teacher's" if "teacher" in given else "yes" if known else "no",
            *areas,
            statistics.mean(areas),
            statistics.mean(right),
            statistics.median(seconds),
        )
    return table


class FashionConv(torch.nn.Module):
    """A convolutional classifier whose features are rectified, not averaged maps."""

    def __init__(self):
        super().__init__()
        conv, relu, pool = torch.nn.Conv2d, torch.nn.ReLU, torch.nn.MaxPool2d
        self.body = torch.nn.Sequential(
            *(conv(1, 16, 3, padding=1), relu(), pool(2)),
            *(conv(16, 32, 3, padding=1), relu(), pool(2)),
            *(torch.nn.Flatten(), torch.nn.Linear(32 * 49, 128), relu()),
        )
        self.drop = torch.nn.Dropout(0.2)
        self.fc = torch.nn.Linear(128, 10)

    def forward(self, x):
        """Return logits (b, c)."""
        return self.fc(self.drop(self.body(x)))


def fashion(options):
    """Fashion-MNIST against MNIST, around a network that skorch trains."""
    from skorch import NeuralNetClassifier

    from skad._training import reproducible

    folder = pathlib.Path(options.data) / "oneclass"
    X, y = pictures_of_fashion(folder, "train", 60_000)
    trained, held = slice(0, 50_000), slice(50_000, 60_000)
    X_in, y_in = pictures_of_fashion(folder, "test", 5000)
    P = np.concatenate([X_in, mnist(folder, 5000)])
    y_test = np.repeat([1, -1], 5000)
    net = NeuralNetClassifier(
        FashionConv,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=5,
        batch_size=64,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    start = time.process_time()
    with reproducible("cpu"):
        torch.default_generator.manual_seed(0)
        net.fit(X[trained, None], y[trained])
    seconds = time.process_time() - start
    module = net.module_.eval()
    parts = X[:10_000], X[held], P
    fitted, validation, tested = (ood.extract(module, part) for part in parts)
    accuracy = (to_numpy(tested.predicted())[:5000] == y_in).mean()
    table = Table(
        "method auroc peer_auroc difference aupr_in aupr_out fpr95_ood_positive"
        " fpr95_id_positive accuracy training_cpu_s".split()
    )
    rows = [
        *(row[:3] for row in QUALITY),
        ("TemperatureScaling", "TemperatureScaling", {}),
        ("OODDetector", "OODDetector", {}),
    ]
    for name, method, settings in rows:
        known, kinds = fitted, y[:10_000]
        if method == "TemperatureScaling":
            known, kinds = validation, y[held]
        detector = getattr(ood, method)(module, **settings)
        scores = detector.fit(known, kinds).score_samples(tested)
        theirs = peers_scores(method, settings, module, known, tested, kinds)
        found = areas(y_test, scores)
        peers, gap = "-", "-"
        if theirs is not None:
            peers = metrics.auroc(y_test, to_numpy(theirs).astype(float))
            gap = found[0] - peers
        table.add(name, found[0], peers, gap, *found[1:], accuracy, seconds)
    return table


def peers_scores(method, settings, net, known, tested, y):
    """Return the peer's anomalies of the same network, None where it has no such."""
    d, head, labels = peer(), net.fc, torch.as_tensor(y)
    f, z, F, Z = (
        torch.as_tensor(to_numpy(outputs[key])).float()
        for outputs in (known, tested)
        for key in ("penultimate", "decision")
    )
    epsilon, pruned = settings.get("epsilon"), settings.get("pruned")

    def encoder(x):
        return net.body(x)

    on_logits = {
        "MaxSoftmax": lambda: d.MaxSoftmax(None),
        "MaxLogit": lambda: d.MaxLogit(None),
        "Energy": lambda: d.EnergyBased(None),
        "Entropy": lambda: d.Entropy(None),
        "GEN": lambda: d.GEN(None),
        "KLMatching": lambda: d.KLMatching(None),
        "OpenMax": lambda: d.OpenMax(None, tailsize=25, alpha=10),
        "TemperatureScaling": lambda: d.TemperatureScaling(None),
    }
    on_features = {
        "MahalanobisOOD": lambda: d.Mahalanobis(None),
        "RelativeMahalanobis": lambda: d.RMD(None),
        "KNNOOD": lambda: d.KNN(None, k=settings.get("n_neighbors", 50)),
        "ViM": lambda: d.ViM(
            None, settings.get("n_components", 64), head.weight, head.bias
        ),
        "SHE": lambda: d.SHE(None, head),
        "PNML": lambda: d.PNML(None, head),
        "NNGuide": lambda: d.NNGuide(None, head),
        "DICE": lambda: d.DICE(
            None, head.weight, head.bias, settings.get("sparsity", 0.9)
        ),
    }
    over_maps = torch.nn.Sequential(torch.nn.Flatten(), head)
    on_maps = {
        "ReAct": lambda: d.ReAct(None, over_maps),
        "ASH": lambda: d.ASH(
            None, over_maps, f"ash-{settings.get('variant', 's')}", pruned
        ),
        "SCALE": lambda: d.SCALE(None, over_maps, pruned),
    }
    if method == "ODIN":
        made = d.ODIN(net, eps=settings.get("epsilon", 0.0014))
    elif method == "GradNorm":
        made = d.GradNorm(net, param_filter=lambda part: part == "fc.weight")
    elif method == "MahalanobisOOD" and epsilon:
        made = d.MahalanobisODIN(encoder, eps=epsilon).fit_features(f, labels)
    if method in ("ODIN", "GradNorm") or (method == "MahalanobisOOD" and epsilon):
        pictures = torch.as_tensor(tested.X).reshape(-1, 1, 28, 28)
        return torch.cat([made.predict(part).detach() for part in pictures.split(500)])
    if method in on_logits:
        made = on_logits[method]()
        if hasattr(made, "fit_logits"):
            made.fit_logits(z, labels)
        return made.predict_logits(Z).detach()
    if method in on_features:
        made = on_features[method]()
        return made.fit_features(f, labels).predict_features(F).detach()
    if method in on_maps:
        made = on_maps[method]()
        if method == "ReAct":
            made.fit_feature_maps(f, labels)
        return made.predict_feature_maps(F[:, :, None, None]).detach()
    return None


def areas(y_test, scores):
    """Return AUROC, both AUPR and the false positive rate in both conventions."""
    return (
        metrics.auroc(y_test, -scores),
        metrics.aupr_in(y_test, -scores),
        metrics.aupr_out(y_test, -scores),
        *(
            metrics.fpr_at_tpr(y_test, -scores, positive=positive)
            for positive in ("ood", "id")
        ),
    )


def pictures_of_fashion(folder, part, n):
    """Return n pictures (n, 28, 28) in 0..1 and their classes, drawn with a seed."""
    with np.load(folder / "fashion_mnist" / f"fashion_mnist_{part}.npz") as data:
        X, y = data["X"], data["y"]
    rows = np.random.default_rng(0).permutation(len(X))[:n]
    return X[rows].astype(np.float32) / 255, y[rows].astype(np.int64)


def mnist(folder, n):
    """Return n pictures (n, 28, 28) in 0..1, drawn with a seed."""
    with gzip.open(folder / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        X = np.frombuffer(file.read(), dtype=np.uint8, offset=16).reshape(-1, 28, 28)
    rows = np.random.default_rng(0).permutation(len(X))[:n]
    return X[rows].astype(np.float32) / 255


NOTES = {
    "speed": ["CPU seconds of one process, medians of turns, beside other work"],
    "passes": ["CPU seconds of one process, medians of turns, beside other work"],
    "digits": ["areas do not depend on the load of the machine"],
    "trained": [
        "areas do not depend on the load of the machine",
        "accuracy is that of classes in the distribution, without rejection",
    ],
    "fashion": [
        "TemperatureScaling is fitted to rows held out of the training, on both sides"
    ],
}


def main():
    """Run the parts that the command line names."""
    parts = {
        function.__name__: function
        for function in (speed, passes, digits, trained, fashion)
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--data", default="../shared/data", help="shared data")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--only", nargs="*", help="methods whose speed is measured")
    parser.add_argument("--networks", nargs="*", default=["mlp", "cnn"])
    parser.add_argument("--out", default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for part in options.parts:
        table = parts[part](options)
        table.write(pathlib.Path(options.out) / f"ood_{part}.tsv", *NOTES.get(part, ()))


if __name__ == "__main__":
    main()
