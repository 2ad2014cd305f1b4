"""Pictures: what defects among the training pictures cost.

    OMP_NUM_THREADS=1 python benchmarks/bench_noise.py --data ../shared/data

A tenth of the training pictures are defects, drawn at random, which leave the test set
whether they are learned from or not, so that both figures of a row are of the same
pictures. Pictures are of 256 x 256, features of the ResNet-18 in the data's folder.
Writes ``benchmarks/results/images_noise.tsv``.
"""

import argparse
import pathlib

import numpy as np
from _measure import Table
from sklearn.metrics import roc_auc_score

from skad.image import InReaCh, PatchCore, SoftPatch, load_folder
from skad.metrics import pixel_roc_auc

RESNET = "weights/resnet18_conv1_to_layer3_bnfolded.npz"
SHARES = {"cookie": 0.1, "magnetic_tile": 0.02}  # of patches that a bank keeps
DETECTORS = {
    "PatchCore": PatchCore,
    "SoftPatch": SoftPatch,
    "InReaCh": InReaCh,
}


def built(name, share, weights):
    """Return a detector as it is compared."""
    settings = {"backbone": "resnet18", "weights": weights, "random_state": 0}
    if name != "InReaCh":
        settings["coreset_ratio"] = share
    return DETECTORS[name](**settings)


def sampled(pictures, y, options, random):
    """Return at most so many of test pictures, half of them good where there are."""
    parts = [random.permutation(pictures[y[pictures] == kind]) for kind in (0, 1)]
    return np.sort(np.concatenate([part[: options.tests // 2] for part in parts]))


def noise(options):
    """Areas under the curves without and with a tenth of defects in training."""
    table = Table("set detector seed defects image_auc pixel_auc".split())
    data = pathlib.Path(options.data)
    for name in options.sets:
        pictures = load_folder(data / "images" / name, size=(256, 256))
        good, test = pictures.X_train[:], pictures.X_test[:]
        y = np.asarray(pictures.y_test) == -1
        masks = [pictures.masks_test[i] for i in range(len(test))]
        for seed in range(options.seeds):
            random = np.random.default_rng(seed)
            chosen = random.permutation(len(good))[: options.pictures]
            n_bad = round(len(chosen) / 9)
            bad = random.permutation(np.flatnonzero(y))[:n_bad]
            kept = sampled(np.setdiff1d(np.arange(len(test)), bad), y, options, random)
            mixed = np.concatenate([good[chosen], test[bad]])
            mixed = mixed[random.permutation(len(mixed))]
            for detector in options.detectors:
                for n, train in ((0, good[chosen]), (n_bad, mixed)):
                    fitted = built(detector, SHARES[name], data / RESNET).fit(train)
                    found = fitted.inspect(test[kept])
                    table.add(
                        name,
                        detector,
                        seed,
                        n,
                        roc_auc_score(y[kept], -found.scores),
                        pixel_roc_auc([masks[i] for i in kept], found.maps),
                    )
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--sets", nargs="*", default=["cookie", "magnetic_tile"])
    parser.add_argument("--detectors", nargs="*", default=list(DETECTORS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=80, help="good ones, at most")
    parser.add_argument("--tests", type=int, default=160, help="test pictures, at most")
    parser.add_argument("--out", default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args()
    noise(options).write(pathlib.Path(options.out) / "images_noise.tsv")


if __name__ == "__main__":
    main()
