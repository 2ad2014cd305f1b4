"""Which share of the activations to prune: what chose the defaults of ASH and SCALE.

    OMP_NUM_THREADS=1 python benchmarks/bench_shaping.py

Networks of several widths and seeds, on splits of scikit-learn's digits other than the
one that is reported and on generated classes; half of the classes are known. Rows with
linear layers shape the last layer's features; "averaged" those of a convolutional
network after the average over place, "maps" before it. The mean ROC AUC of each share
goes into ``benchmarks/results/ood_shaping.tsv``; a share of 0 is the plain energy (of
scaled logits for "s" and SCALE).
"""

import pathlib
import statistics
import warnings

import numpy as np
import torch
from _measure import Table
from sklearn.datasets import load_digits, make_classification
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skad import metrics
from skad.ood._ash import shaped
from skad.ood._energy import energy
from skad.ood._scale import scaled

SHARES = (0, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 0.85, 0.9, 0.95)
WIDTHS, SEEDS = (16, 32, 64, 128, 256, 512), range(2)
SPLITS = {"even": (0, 2, 4, 6, 8), "odd": (1, 3, 5, 7, 9), "high": (5, 6, 7, 8, 9)}


def parts(X, y, known):
    """Return training rows, their classes, test rows and rows of other classes."""
    inside = np.flatnonzero(np.isin(y, known))
    train, test = train_test_split(
        inside, test_size=0.4, stratify=y[inside], random_state=0
    )
    codes = np.searchsorted(known, y[train])
    return X[train], codes, X[test], X[~np.isin(y, known)]


def sets():
    """Yield (kind of data, parts)."""
    X, y = load_digits(return_X_y=True)
    for known in SPLITS.values():
        yield "digits", parts(X / 16, y, known)
    for seed in SEEDS:
        X, y = make_classification(
            3000,
            20,
            n_informative=12,
            n_redundant=4,
            n_classes=10,
            n_clusters_per_class=1,
            class_sep=2.0,
            random_state=seed,
        )
        yield "generated", parts(X / X.std(axis=0), y, tuple(range(5)))


def linear(width, seed, X, codes, *probes):
    """Return the features of probes in a network with linear layers, and its head."""
    net = MLPClassifier((64, width), max_iter=60, batch_size=64, random_state=seed)
    net.fit(X, codes)
    found = list(probes)
    for weight, bias in zip(net.coefs_[:-1], net.intercepts_[:-1], strict=True):
        found = [np.maximum(rows @ weight + bias, 0) for rows in found]
    return found, net.coefs_[-1].T, net.intercepts_[-1]


def convolutional(width, seed, X, codes, *probes):
    """Return the maps of probes in a convolutional network, and its head."""
    torch.manual_seed(seed)
    conv, relu = torch.nn.Conv2d, torch.nn.ReLU
    body = torch.nn.Sequential(
        *(conv(1, 16, 3, padding=1), relu(), torch.nn.MaxPool2d(2)),
        *(conv(16, width, 3, padding=1), relu()),
    )
    head = torch.nn.Linear(width, 5)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=3e-3)
    x, *rest = (
        torch.tensor(rows).float().reshape(-1, 1, 8, 8) for rows in (X, *probes)
    )
    labels = torch.tensor(codes)
    for _ in range(30):
        for batch in torch.randperm(len(x)).split(64):
            logits = head(body(x[batch]).mean(dim=(2, 3)))
            loss = torch.nn.functional.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        found = [body(rows).double().numpy() for rows in rest]
    weight, bias = (part.detach().double().numpy() for part in head.parameters())
    return found, weight, bias


def area(share, method, probes, weight, bias):
    """Return the ROC AUC of known and unknown rows."""
    found = []
    for rows in probes:
        flat = rows.reshape(len(rows), -1)
        flat = scaled(flat, share) if method == "SCALE" else shaped(flat, share, method)
        features = flat.reshape(rows.shape)
        features = features.mean(axis=(2, 3)) if rows.ndim == 4 else features
        found.append(energy(features @ weight.T + bias))
    y = np.repeat([1, -1], [len(part) for part in found])
    return metrics.auroc(y, np.concatenate(found))


def main():
    """Train the networks and write the table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found = {}

    def note(kind, width, probes, weight, bias):
        for method in ("s", "b", "p", "SCALE"):
            for share in SHARES:
                key = kind, width, method, share
                value = area(share, method, probes, weight, bias)
                found.setdefault(key, []).append(value)

    for kind, (X, codes, *probes) in sets():
        for seed in SEEDS:
            for width in WIDTHS:
                note(f"{kind}, linear", width, *linear(width, seed, X, codes, *probes))
            for width in (32, 128) if kind == "digits" else ():
                maps, *head = convolutional(width, seed, X, codes, *probes)
                note("digits, maps", width, maps, *head)
                pooled = [part.mean(axis=(2, 3)) for part in maps]
                note("digits, averaged", width, pooled, *head)
    table = Table(["method", "data", "width", *(f"pruned_{share}" for share in SHARES)])
    for kind, width, method in sorted(
        {key[:3] for key in found}, key=lambda k: k[::-1]
    ):
        name = method if method == "SCALE" else f"ASH-{method.upper()}"
        means = [statistics.mean(found[kind, width, method, p]) for p in SHARES]
        table.add(name, kind, width, *means)
    for method in ("s", "b", "p", "SCALE"):
        name = method if method == "SCALE" else f"ASH-{method.upper()}"
        kinds = {key[0] for key in found}
        means = [
            statistics.mean(
                statistics.mean(
                    statistics.mean(values)
                    for key, values in found.items()
                    if (key[0], *key[2:]) == (kind, method, p)
                )
                for kind in kinds
            )
            for p in SHARES
        ]
        table.add(name, "mean of the kinds", "all", *means)
    table.write(pathlib.Path(__file__).parent / "results" / "ood_shaping.tsv")


if __name__ == "__main__":
    main()
