"""What known defects, marked pixel by pixel, are worth on two real sets of pictures.

    OMP_NUM_THREADS=1 python benchmarks/bench_images_known.py --data ../shared/data

The pictures are those of ``bench_images_all.py``, 128 px and ResNet-18. A third of the
defects is known while training, with masks where a detector takes them, and all others
are scored beside the good ones; PatchCore and the two baselines on pixels, which know
none, are scored on the same. What trains gets as many epochs as fit into ``--seconds``
of processor time. ``image_auc``, ``pixel_auc`` and ``aupro`` are means over the seeds,
which draw the known defects, as are the seconds of a fit. Writes
``benchmarks/results/images_known.tsv``; with ``--only`` the rows of other detectors
stay as they are.
"""

import argparse
import pathlib
import time
import warnings

import numpy as np
from _measure import Table, kept_notes, kept_rows
from _picture_rows import BASELINES, SETS
from bench_images_all import RESNET, RESULTS, baseline, figures, scored, shortened
from bench_pictures import real

import skad

COLUMNS = (
    "set detector settings known epochs image_auc pixel_auc aupro flagged fit_cpu_s"
)
RESNET_ARGUMENTS = {"backbone": "resnet18"}
# Arguments that are no defaults, and whether `fit` takes masks or labels alone.
DETECTORS = {
    "PatchCore": (RESNET_ARGUMENTS, None),
    "BGAD": (RESNET_ARGUMENTS, "masks"),
    "DRA": ({**RESNET_ARGUMENTS, "layers": ("layer3",)}, "labels"),
    # the authors' last layer, of 1024 channels, takes eight times as long
    "MixedSupervision": ({"channels": (32, 64, 64, 128)}, "masks"),
    "SemiREST": (RESNET_ARGUMENTS, "masks"),
}


def split(train, test, y, masks, seed):
    """Return what is known of pictures to train on, and those that are scored."""
    rng = np.random.default_rng(seed)
    bad = rng.permutation(np.flatnonzero(y))[: y.sum() // 3]
    rest = np.setdiff1d(np.arange(len(y)), bad)
    marked = np.zeros((len(train) + len(bad), *train.shape[1:3]), dtype=bool)
    for i, j in enumerate(bad, start=len(train)):
        marked[i] = masks[j]
    labels = np.repeat([0, -1], [len(train), len(bad)])
    pictures = np.concatenate([train, test[bad]])
    return (pictures, labels, marked), (test[rest], y[rest], [masks[i] for i in rest])


def one(name, data, weights, seed, seconds):
    """Return the figures of a detector for one draw of known defects."""
    train = data[0]
    (pictures, labels, marked), (probes, anomalous, places) = split(*data, seed)
    if name in BASELINES:
        found = figures(anomalous, places, *baseline(name, train, probes))
        return found | {"known": 0}
    settings, takes = DETECTORS[name]
    given = {"random_state": seed, **settings}
    if "backbone" in given:
        given["weights"] = weights
    known = {"labels": {"y": labels}, "masks": {"masks": marked}}.get(takes, {})
    X = pictures if takes else train

    def make():
        return getattr(skad, name)(**given)

    detector, limit = shortened(make, X, seconds, **known)
    start = time.process_time()
    detector.fit(X, **known)
    found = {"fit_cpu_s": time.process_time() - start}
    if limit is not None:
        found["epochs"] = len(detector.history_)
    scores, maps = scored(detector, probes)
    found["flagged"] = float((scores[~anomalous] < detector.offset_).mean())
    found["known"] = len(X) - len(train)
    return found | figures(anomalous, places, -scores, maps)


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--seconds", type=float, default=60, help="of a training")
    parser.add_argument("--only", nargs="*", help="names of detectors")
    parser.add_argument("--out", default=RESULTS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    data, path = pathlib.Path(options.data), pathlib.Path(options.out)
    path = path / "images_known.tsv"
    kept = kept_rows(path) if options.only else []
    table, notes = Table(COLUMNS.split()), kept_notes(path) if options.only else ()
    for name in SETS:
        pictures = real(data / "images" / name)
        for kind in (*BASELINES, *DETECTORS):
            if options.only and kind not in options.only:
                for row in kept:
                    if row[:2] == [name, kind]:
                        table.add(*row)
                continue
            found = [
                one(kind, pictures, data / RESNET, seed, options.seconds)
                for seed in options.seeds
            ]
            settings = DETECTORS.get(kind, ({}, None))[0]
            told = ", ".join(f"{key}={value}" for key, value in settings.items())
            means = {
                key: float(np.mean([one[key] for one in found])) for key in found[0]
            }
            cells = [means.get(key, "") for key in COLUMNS.split()[3:]]
            table.add(name, kind, told, *cells)
            table.write(path, *notes)


if __name__ == "__main__":
    main()
