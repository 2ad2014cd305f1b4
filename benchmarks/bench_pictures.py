"""Pictures at 128 px on one core: how a map is pooled, and how trainings go on.

    OMP_NUM_THREADS=1 python benchmarks/bench_pictures.py pooling --data ../shared/data
    OMP_NUM_THREADS=1 python benchmarks/bench_pictures.py settings --data ../shared/data
    OMP_NUM_THREADS=1 python benchmarks/bench_pictures.py training --data ../shared/data
    OMP_NUM_THREADS=1 python benchmarks/bench_pictures.py norms --data ../shared/data

`pooling` chose the defaults of PatchCore's score: seven textures, drawn anew for
each seed, with four kinds of defects, beside the two sets of pictures. `settings`
trains with other rates and batches on some of these textures alone, and chose the rates
that are no paper's. `norms` looks at tiles of 64 px, whose files are sorted by the
light, with the statistics of batch norms taken in three ways. `training` looks at
detectors after more and more epochs: of each set at most 80 pictures to train on and
160 to score, half of them good, beside baselines that train nothing. ResNet-18 is the
network whose weights are in the data's folder. Times are seconds of processor time
without what is looked at on the way; steps are batches of pictures, which CFLOW takes
apart into many of patches. Each part writes ``benchmarks/results/images_<part>.tsv``.
"""

import argparse
import copy
import pathlib
import time

import numpy as np
import torch
from _measure import Table
from scipy import ndimage
from sklearn.datasets import load_sample_image
from sklearn.metrics import roc_auc_score
from skorch.callbacks import Callback
from torch import nn

import skad.image
from skad._training._held_out import held_samples
from skad.image._pooling import pool
from skad.metrics import pixel_roc_auc
from skad.nn.statistics import settle_norms

RESNET = "weights/resnet18_conv1_to_layer3_bnfolded.npz"
SIZE = 128
TEXTURES = ["stripes", "cloth", "clouds", "grain", "dots", "china.jpg", "flower.jpg"]
SETS = ["cookie", "magnetic_tile"]

# How PatchCore's score is made: (n_neighbors, pooling, quantile).
SCORES = {
    "largest_patch": (1, "max", 0.99),
    "reweighted_patch": (9, "max", 0.99),
    "max": (None, "max", 0.99),
    "top_0.001": (None, "top", 0.999),
    "top_0.01": (None, "top", 0.99),
    "top_0.1": (None, "top", 0.9),
    "quantile_0.99": (None, "quantile", 0.99),
    "mean": (None, "mean", 0.99),
}
# Epochs after which a training is looked at, by set.
EPOCHS = {
    "SimpleNet": {"magnetic_tile": [20, 40, 80, 120], "cookie": [20, 40, 80]},
    "CFA": {"magnetic_tile": [1, 10, 30], "cookie": [1, 10, 30]},
    "STFPM": {"magnetic_tile": [20, 50], "cookie": [25, 50]},
    "ReverseDistillation": {"magnetic_tile": [5, 10], "cookie": [10, 20]},
    "CFLOW": {"magnetic_tile": [2, 8], "cookie": [4, 8]},
    "CSFlow": {"magnetic_tile": [10, 30], "cookie": [30, 60]},
    "AST": {"magnetic_tile": [10, 20], "cookie": [20, 40]},
    "FastFlow": {"magnetic_tile": [5, 10], "cookie": [20, 40]},
    "DFR": {"magnetic_tile": [10, 20], "cookie": [25, 50]},
    "Dinomaly": {"magnetic_tile": [20, 80], "cookie": [20, 80]},
    "INPFormer": {"magnetic_tile": [80], "cookie": [80]},
}
# What trains nothing, beside the baselines on pixels.
UNTRAINED = (
    "PatchCore",
    "PaDiM",
    "SemiOrthogonal",
    "AnomalyDINO",
    "FRE",
    "DFM",
    "MuSc",
)


# What is tried: on which textures, after how many epochs, with which settings.
SOME = ("grain", "dots")
TRIED = {
    "DFR": (
        (*SOME, "cloth", "flower.jpg"),
        [6, 18],
        [{"lr": lr} for lr in (1e-4, 1e-3, 3e-3, 1e-2)],
    ),
    "CFLOW": (
        (*SOME, "flower.jpg"),
        [1, 2],
        [{"lr": lr} for lr in (2e-4, 1e-3, 2e-3, 4e-3, 1e-2)],
    ),
    "STFPM": (SOME, [7, 14], [{"batch_size": n} for n in (32, 4)]),
    "ReverseDistillation": (SOME, [4, 9], [{"batch_size": n} for n in (16, 4)]),
}
# Of trainings that would end before the last look.
WHOLE = {"SimpleNet": {"stop_loss": None}}


def spread(rows, n):
    """Return at most `n` of rows, evenly spread."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, n).astype(int))]


def real(folder, n_train=80, n_test=160, size=SIZE):
    """Return pictures to train on, those to score, their labels and masks."""
    data = skad.image.load_folder(folder, size=(size, size))
    y = np.asarray(data.y_test) == -1
    rows = [spread(np.flatnonzero(y == kind), n_test // 2) for kind in (False, True)]
    rows = np.concatenate(rows)
    train, test = (
        np.asarray(x, dtype=np.float32) / 255
        for x in (spread(data.X_train[:], n_train), data.X_test[rows])
    )
    return train, test, y[rows], [data.masks_test[i] for i in rows]


def texture(kind, random, photograph):
    """Return a picture (SIZE, SIZE) of a texture."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    start = random.uniform(0, 6, size=2)
    if kind == "stripes":
        found = 0.2 * np.sin(columns / random.uniform(2.8, 3.2) + start[0])
    elif kind == "cloth":
        found = 0.15 * np.sin(columns / 2 + start[0]) * np.sin(rows / 2 + start[1])
        found += 0.1 * np.sin((columns + rows) / 7)
    elif kind in ("clouds", "grain"):
        sigma = 4 if kind == "clouds" else (0.7, 6)
        found = ndimage.gaussian_filter(random.normal(size=(SIZE,) * 2), sigma)
        found *= 0.14 / found.std()
    elif kind == "dots":
        found = np.zeros((SIZE, SIZE))
        top, left = random.integers(0, 16, 2)
        found[top::16, left::16] = 20
        found = ndimage.gaussian_filter(found, 2) - 0.2
    else:
        top, left = (random.integers(0, n - SIZE) for n in photograph.shape)
        found = photograph[top : top + SIZE, left : left + SIZE] - 0.5
    light = random.uniform(0.95, 1.05)
    return (0.5 + found) * light + random.normal(0, 0.02, found.shape)


def spoiled(picture, random, kind):
    """Return a picture with a defect: light, a scratch, a turned piece or a blur."""
    picture, side = picture.copy(), int(random.integers(8, 20))
    top, left, *other = random.integers(8, SIZE - side - 8, 4)
    place = picture[top : top + side, left : left + side]
    if kind == 0:
        place += random.choice([-1, 1]) * random.uniform(0.12, 0.25)
    elif kind == 1:
        for i in range(side):
            place[i, i // 2 : i // 2 + 2] += 0.25
    elif kind == 2:
        source = picture[other[0] : other[0] + side, other[1] : other[1] + side]
        place[:] = np.rot90(source).copy()
    else:
        place[:] = ndimage.gaussian_filter(place, 3)
    return picture


def drawn(kind, seed):
    """Return 30 pictures to train on, 80 to score and which of these have a defect."""
    random, photograph = np.random.default_rng(seed), None
    if kind.endswith("jpg"):
        photograph = load_sample_image(kind).mean(2) / 255
    pictures = [texture(kind, random, photograph) for _ in range(110)]
    y = np.arange(80) >= 40
    for i in np.flatnonzero(y):
        pictures[30 + i] = spoiled(pictures[30 + i], random, i % 4)
    pictures = np.stack(pictures).clip(0, 1).astype(np.float32)
    return pictures[:30], pictures[30:], y


def patchcore_scores(detector, X):
    """Return the anomaly (n,) of pictures under each of `SCORES`."""
    found = {name: [] for name in SCORES}
    for x in torch.as_tensor(X).split(16):
        with torch.no_grad():
            features = detector.embedding_.embed(x if x.ndim == 4 else x[..., None])
            near = detector._search(features)
            maps = detector._upsampled(near[0])
            for name, (n_neighbors, pooling, quantile) in SCORES.items():
                detector.set_params(
                    n_neighbors=n_neighbors, pooling=pooling, quantile=quantile
                )
                found[name].append(detector._score(features, *near, maps=maps))
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


def pooling(options):
    """Image ROC AUC of PatchCore by how its score is made, the mean over seeds."""
    table = Table(["set", "backbone", *SCORES])
    data, means = pathlib.Path(options.data), []
    for name in [*TEXTURES, *SETS]:
        for backbone in ("gabor", "resnet18"):
            given = {"coreset_ratio": 0.05 if name == "magnetic_tile" else 0.1}
            if backbone != "gabor":
                given |= {"backbone": backbone, "weights": data / RESNET}
            rows = []
            for seed in range(options.seeds):
                if name in SETS:
                    train, test, y, _ = real(data / "images" / name)
                else:
                    train, test, y = drawn(name, seed)
                detector = skad.image.PatchCore(**given, random_state=seed)
                scores = patchcore_scores(detector.fit(train), test)
                rows.append([roc_auc_score(y, score) for score in scores.values()])
            means.append(np.mean(rows, axis=0))
            table.add(name, backbone, *map(float, means[-1]))
            table.write(pathlib.Path(options.out, "images_pooling.tsv"))
    table.add("mean", "both", *map(float, np.mean(means, axis=0)))
    return table


class Looks(Callback):
    """Scores the pictures after some epochs, as if the fit ended there."""

    def __init__(self, epochs, look):
        self.epochs, self.look = epochs, look
        self.n_epochs = self.n_steps = self.spent = 0

    def __deepcopy__(self, memo):
        return self

    def on_train_begin(self, net, **parameters):
        self.start = time.process_time()

    def on_batch_end(self, net, training=True, **parameters):
        self.n_steps += bool(training)

    def on_epoch_end(self, net, **parameters):
        self.n_epochs += 1
        if self.n_epochs in self.epochs:
            start = time.process_time()
            seconds = start - self.start - self.spent
            loss = net.history[-1]["train_loss"]
            self.look(net.module_, self.n_epochs, self.n_steps, loss, seconds)
            self.spent += time.process_time() - start


def trained(detector, names, sets, epochs, table):
    """Add a row for each look at a training.

    Without masks, the figure before `finish` stands in the place of that of pixels.
    """
    train, test, y, masks = sets
    describe, samples, size = detector._samples, {}, detector.batch_size

    def kept(X):
        samples["train"] = describe(X)
        return samples["train"]

    def scored(network):
        parts = []
        for x in torch.as_tensor(test).split(8):
            x = x if x.ndim == 4 else x[..., None]
            parts.append(network.map(detector._describe(x).float()))
        maps = detector._upsampled(torch.cat(parts))
        score = pool(maps, detector.pooling, detector.quantile)
        return roc_auc_score(y, score.numpy()), maps

    def look(network, n_epochs, n_steps, loss, seconds):
        network = copy.deepcopy(network).eval()
        with torch.no_grad():
            before = scored(network)[0] if masks is None else None
            network.finish(lambda: ((x, None) for x in samples["train"].split(size)))
            image, maps = scored(network)
        other = before if masks is None else pixel_roc_auc(masks, maps.numpy())
        table.add(*names, n_epochs, n_steps, loss, image, other, seconds)

    detector._samples = kept
    detector.set_params(max_epochs=max(epochs), callbacks=[Looks(epochs, look)])
    detector.fit(train)


def means_of_batches(network, batches):
    """Give batch norms the means over batches of their statistics."""
    parts = [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
    for part in parts:
        part.reset_running_stats()
        part.momentum = None
    network.train()
    for x in batches:
        network.loss(x, None)
    network.eval()


def norms(options):
    """Loss on training pictures, and image ROC AUC, by the statistics of norms."""
    table = Table("set detector epochs steps statistics loss image_auc".split())
    data, name = pathlib.Path(options.data), "magnetic_tile"
    train, test, y, _ = real(data / "images" / name, size=64)
    kept = np.delete(train, held_samples(len(train), 0.2), axis=0)
    ways = {
        "last steps": lambda network, batches: None,
        "batches in order": means_of_batches,
        "all pictures": settle_norms,
    }
    given = {"backbone": "resnet18", "weights": data / RESNET, "random_state": 0}
    beside = skad.image.PatchCore(**given).fit(train)
    auc = roc_auc_score(y, -beside.score_samples(test))
    table.add(name, "PatchCore", 0, 0, "", "", auc)
    kinds = ["STFPM", "ReverseDistillation"]
    for kind in kinds if options.detectors is None else options.detectors:
        detector = getattr(skad.image, kind)(**given)
        samples = []

        def look(network, n_epochs, n_steps, *_, kind=kind, own=detector, x=samples):
            if not x:
                for part in map(torch.as_tensor, (kept, test)):
                    x.append(own._samples(part.reshape(*part.shape[:3], -1)))
            for way, settle in ways.items():
                one = copy.deepcopy(network).eval()
                with torch.no_grad():
                    settle(one, x[0].split(own.batch_size))
                    loss = float(one.loss(x[0], None))
                    maps = torch.cat([one.map(part) for part in x[1].split(16)])
                    score = pool(own._upsampled(maps), "max", 1.0)
                figures = loss, roc_auc_score(y, score.numpy())
                table.add(name, kind, n_epochs, n_steps, way, *figures)

        epochs = [10, 25, 50]
        detector.set_params(max_epochs=max(epochs), callbacks=[Looks(epochs, look)])
        detector.fit(train)
    return table


def baselines(name, sets, table):
    """Add the rows of two baselines on pixels."""
    train, test, y, masks = sets
    flat, rows = (x.reshape(len(x), -1) for x in (train, test))
    away = np.abs(test - train.mean(0))
    maps = away.mean(3) if away.ndim == 4 else away
    mean = np.square(rows - flat.mean(0)).mean(1) ** 0.5
    near = torch.cdist(torch.tensor(rows), torch.tensor(flat)).min(1)
    alike = np.abs(test - train[near.indices.numpy()])
    alike = alike.mean(3) if alike.ndim == 4 else alike
    for kind, score, found in (
        ("mean_picture", mean, maps),
        ("nearest_picture", near.values.numpy(), alike),
    ):
        figures = roc_auc_score(y, score), pixel_roc_auc(masks, found)
        table.add(name, kind, 0, 0, "", *figures, 0.0)


def untrained(name, kinds, sets, weights, table):
    """Add the rows of detectors that train nothing."""
    train, test, y, masks = sets
    for kind in kinds:
        made = getattr(skad.image, kind)
        seed = {"random_state": 0} if "random_state" in made().get_params() else {}
        seed |= {"layers": ("layer3",)} if kind == "MuSc" else {}  # fewer patches
        detector = made(backbone="resnet18", weights=weights, **seed)
        start = time.process_time()
        detector.fit(train)
        seconds = time.process_time() - start
        found = detector.inspect(test)
        figures = roc_auc_score(y, -found.scores), pixel_roc_auc(masks, found.maps)
        table.add(name, kind, 0, 0, "", *figures, seconds)


def components(name, sets, weights, table):
    """Add the row of DFR's linear twin: principal components, as many as its code."""
    train, test, y, masks = sets
    detector = skad.image.DFR(
        backbone="resnet18", weights=weights, max_epochs=1, random_state=0
    ).fit(train)

    def features(X):
        parts = torch.as_tensor(X if X.ndim == 4 else X[..., None]).split(8)
        return torch.cat([detector._layers(x)[0] for x in parts]).permute(0, 2, 3, 1)

    start = time.process_time()
    with torch.no_grad():
        rows = features(train).flatten(0, 2)
        mean = rows.mean(0)
        rows = rows - mean
        values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
        left = vectors[:, : -detector.latent_size_]  # what is not rebuilt
        seconds = time.process_time() - start
        errors = ((features(test) - mean) @ left).square().sum(3) / len(values)
        maps = detector._upsampled(errors)
    loss = float(values[: -detector.latent_size_].sum()) / len(values)
    image = roc_auc_score(y, maps.flatten(1).amax(1).numpy())
    figures = loss, image, pixel_roc_auc(masks, maps.numpy()), seconds
    table.add(name, "DFR_components", 0, 0, *figures)


def settings(options):
    """Image ROC AUC on textures by rates and batches, with and without `finish`."""
    table = Table(
        "set detector settings epochs steps loss image_auc unfinished_auc"
        " fit_cpu_s".split()
    )
    weights = pathlib.Path(options.data) / RESNET
    for kind in options.detectors or TRIED:
        names, epochs, tried = TRIED[kind]
        for given in tried:
            for name in names:
                detector = getattr(skad.image, kind)(
                    backbone="resnet18", weights=weights, random_state=0, **given
                )
                brief = ", ".join(f"{key}={value:g}" for key, value in given.items())
                sets = (*drawn(name, 0), None)
                trained(detector, (name, kind, brief), sets, epochs, table)
                table.write(pathlib.Path(options.out, "images_settings.tsv"))
    return table


def training(options):
    """Image and pixel ROC AUC after more and more epochs."""
    table = Table(
        "set detector epochs steps loss image_auc pixel_auc fit_cpu_s".split()
    )
    data = pathlib.Path(options.data)
    for name in options.sets:
        sets = real(data / "images" / name)
        wanted = options.detectors or [*UNTRAINED, *EPOCHS]
        if not options.detectors:
            baselines(name, sets, table)
            components(name, sets, data / RESNET, table)
        still = [kind for kind in UNTRAINED if kind in wanted]
        untrained(name, still, sets, data / RESNET, table)
        for kind in [kind for kind in EPOCHS if kind in wanted]:
            detector = getattr(skad.image, kind)(
                backbone="resnet18", weights=data / RESNET, random_state=0
            ).set_params(**WHOLE.get(kind, {}))
            trained(detector, (name, kind), sets, EPOCHS[kind][name], table)
            table.write(pathlib.Path(options.out, "images_training.tsv"))
    return table


def main():
    parts = {
        "pooling": pooling,
        "settings": settings,
        "norms": norms,
        "training": training,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=list(parts))
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--sets", nargs="*", default=SETS[::-1])
    parser.add_argument("--detectors", nargs="*")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args()
    for name in options.parts:
        table = parts[name](options)
        table.write(pathlib.Path(options.out) / f"images_{name}.tsv")


if __name__ == "__main__":
    main()
