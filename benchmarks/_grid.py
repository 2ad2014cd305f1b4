"""Detectors on tables beside the best peer of each, over sizes, in seconds of a CPU."""

import pathlib
import time
import warnings
from functools import partial

import numpy as np
from _measure import Table, in_turns, kept_notes, kept_rows, seconds

import skad
from skad import _compiled

ROWS, FEATURES = (1_000, 20_000), (10, 100)
# A turn is as many calls as take this long, and so long are all turns together.
TURN, ALL_TURNS = 0.02, 0.4
# What one call would take longer than is left out, by its time on the fewest rows.
LONGEST = 10.0


def pairs():
    """Return (detector, arguments, peer, how its fit grows with the rows).

    `LOCI` is left out: the peer's takes minutes for the fewest rows. No peer has
    `ExtendedIsolationForest`; a plain forest, which cuts by one feature, takes .12 to
    .39 of its time.
    """
    from pyod.models.abod import ABOD
    from pyod.models.cblof import CBLOF
    from pyod.models.cd import CD
    from pyod.models.cof import COF
    from pyod.models.copod import COPOD
    from pyod.models.ecod import ECOD
    from pyod.models.gmm import GMM
    from pyod.models.hbos import HBOS
    from pyod.models.hdbscan import HDBSCAN
    from pyod.models.inne import INNE
    from pyod.models.kde import KDE
    from pyod.models.knn import KNN
    from pyod.models.kpca import KPCA
    from pyod.models.loda import LODA
    from pyod.models.pca import PCA
    from pyod.models.qmcd import QMCD
    from pyod.models.rod import ROD
    from pyod.models.sampling import Sampling
    from pyod.models.sod import SOD
    from pyod.models.sos import SOS
    from sklearn.covariance import EllipticEnvelope
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.svm import OneClassSVM

    seed = {"random_state": 0}
    clouds = {"n_components": 4, "random_state": 0}
    forest = partial(IsolationForest, contamination=0.1, random_state=0)
    sampling = partial(Sampling, **seed)
    return [
        ("HBOS", {"n_bins": 10}, HBOS, 1),
        ("HBOS", {}, HBOS, 1),
        ("ECOD", {}, ECOD, 1),
        ("COPOD", {}, COPOD, 1),
        ("PCAReconstruction", {}, PCA, 1),
        ("KernelPCAReconstruction", {}, KPCA, 3),
        ("GMM", clouds, partial(GMM, **clouds), 1),
        ("KDE", {}, KDE, 2),
        (
            "Mahalanobis",
            {"covariance": "mcd"} | seed,
            partial(EllipticEnvelope, **seed),
            1,
        ),
        ("CBLOF", {"n_init": 1} | seed, partial(CBLOF, **seed), 1),
        ("KNN", {}, KNN, 2),
        ("LOF", {}, partial(LocalOutlierFactor, novelty=True), 2),
        ("OneClassSVM", {"nu": 0.1}, partial(OneClassSVM, nu=0.1), 2),
        ("IsolationForest", seed, forest, 1),
        ("INNE", seed, partial(INNE, **seed), 1),
        ("LODA", {"n_bins": 10} | seed, LODA, 1),
        ("LODA", seed, LODA, 1),
        ("ABOD", {"n_neighbors": 5, "weighted": False}, ABOD, 2),
        ("COF", {}, COF, 2),
        ("SOD", {}, SOD, 2),
        ("SOS", {}, SOS, 2),
        ("HDBSCANOutliers", {"min_cluster_size": 5}, HDBSCAN, 2),
        ("QMCD", {}, QMCD, 2),
        ("ROD", {"max_subspaces": 120}, ROD, 1),
        ("CookDistance", {}, CD, 1),
        ("KNN", {"n_neighbors": 1, "max_samples": 20} | seed, sampling, 1),
    ]


def in_cpu_turns(ours, peer):
    """Return the median milliseconds of a CPU that two functions take, in turns."""
    first = [seconds(function, time.process_time) for function in (ours, peer)]
    if max(first) > ALL_TURNS:
        return [1e3 * part for part in first]
    calls = max(1, round(TURN / max(first)))
    turns = max(3, min(11, round(ALL_TURNS / max(TURN, sum(first)))))

    def often(function):
        for _ in range(calls):
            function()

    found = in_turns(
        partial(often, ours), partial(often, peer), turns, time.process_time
    )
    return [1e3 * part / calls for part in found]


def grid(options):
    """Fit, a thousand rows and one row of every detector that a peer has.

    "fit" is with our defaults, whose threshold is honest; "fit, same threshold" takes
    the quantile of training scores that the peers take. With ``--only`` the rows of
    other detectors stay as they are.
    """
    path = pathlib.Path(options.out, "tables_grid.tsv")
    kept = kept_rows(path) if options.only else []
    table = Table("detector n d work ours_ms peer_ms ratio note".split())
    table.notes = kept_notes(path) if options.only else []
    warnings.simplefilter("ignore")
    _compiled._REPAYS = 0  # as the peers' loops are compiled before they are timed
    for name, arguments, peer_class, growth in pairs():
        told = {k: v for k, v in arguments.items() if k != "random_state"}
        shown = ", ".join(f"{key}={value}" for key, value in told.items())
        shown = f"{name}({shown})"
        if options.only and name not in options.only:
            for row in kept:
                if row[0] == shown:
                    table.add(*row)
            continue
        for d in FEATURES:
            took = 0.0
            for n in ROWS:
                expected = took * (n / ROWS[0]) ** growth
                if expected > LONGEST:
                    table.add(shown, n, d, "fit", "", "", "", f"about {expected:.0f} s")
                    continue
                X = np.random.default_rng(0).normal(size=(n, d))
                Q = np.random.default_rng(1).normal(size=(1_000, d))
                ours, peer = getattr(skad, name)(**arguments), peer_class()
                try:
                    peer.fit(X)
                    ours.fit(X)  # what is compiled is compiled
                except ValueError as error:
                    table.add(shown, n, d, "fit", "", "", "", f"theirs fails: {error}")
                    continue
                works = {"fit": (partial(ours.fit, X), partial(peer.fit, X))}
                if "contamination" in ours.get_params():
                    same = getattr(skad, name)(**arguments, contamination=0.1)
                    works["fit, same threshold"] = partial(same.fit, X), works["fit"][1]
                score = getattr(peer, "score_samples", None) or peer.decision_function
                for label, rows in (("score 1,000 rows", Q), ("score one row", Q[:1])):
                    try:  # some look at the rows that are scored alone
                        score(rows)
                    except (ValueError, IndexError) as error:
                        note = f"theirs fails: {error}"
                        table.add(shown, n, d, label, "", "", "", note)
                        continue
                    works[label] = (
                        partial(ours.score_samples, rows),
                        partial(score, rows),
                    )
                for label, both in works.items():
                    mine, theirs = in_cpu_turns(*both)
                    if label == "fit" and not took:
                        took = max(mine, theirs) / 1e3
                    table.add(shown, n, d, label, mine, theirs, theirs / mine, "")
    return table
