"""The shared real tables, as the peers' figures were taken on them."""

import numpy as np
from sklearn.preprocessing import StandardScaler


def peer_figures(folder, method):
    """Return {(set, setting): ROC AUC} of a peer."""
    lines = (folder / "tabular" / "peers.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return {(row[0], row[1]): float(row[5]) for row in rows if row[2] == method}


def tables(folder, largest=10**9):
    """Yield (set, setting), training rows, scored rows and labels, 1 an anomaly."""
    for path in sorted((folder / "tabular").glob("*.npz")):
        data = np.load(path)
        X, y = data["X"].astype(float), data["y"]
        if len(X) > largest:
            continue
        name = path.stem.split("_", 1)[1]
        standard = StandardScaler().fit_transform(X)
        yield (name, "unsup"), standard, standard, y
        normal = np.random.RandomState(0).permutation(np.flatnonzero(y == 0))
        train = normal[: len(normal) // 2]
        rest = np.setdiff1d(np.arange(len(y)), train)
        scaler = StandardScaler().fit(X[train])
        yield (
            (name, "semi"),
            scaler.transform(X[train]),
            scaler.transform(X[rest]),
            y[rest],
        )
