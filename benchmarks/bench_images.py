"""Pictures: quality on real defects, time and memory against anomalib 2.7.

    OMP_NUM_THREADS=1 python benchmarks/bench_images.py speed start
    OMP_NUM_THREADS=1 python benchmarks/bench_images.py quality --data ../shared/data

`speed` needs anomalib 2.7.0 with timm and torchvision beside the CPU build of torch; it
registers the two operators that torchvision misses there. Each part writes
``benchmarks/results/images_<part>.tsv``.

Quality: all pictures of a set at 256 x 256, fitted on train/good, with the built-in
filters and with ResNet-18, the network whose weights are in the data's folder; every
row is a process of its own, and times are seconds of processor time.
``bench_images_all.py`` has every detector at 128 x 128.
"""

import argparse
import json
import pathlib
import statistics
import time

import numpy as np
from _measure import Table, fresh_process, in_turns, median_seconds, seconds

RESNET = "weights/resnet18_conv1_to_layer3_bnfolded.npz"

# What is built for a row: the detector's arguments by backbone and set.
PRETRAINED = "backbone='resnet18', weights=weights"
SHARE = "coreset_ratio=0.1 if name == 'cookie' else 0.02"
ROWS = {"PatchCore": f"PatchCore({{}}, {SHARE})", "PaDiM": "PaDiM({})"}
# Trained ones: on the small set, with fewer epochs than the papers'.
TRAINED = {
    "STFPM, 20 epochs at 128 px": "STFPM({}, image_size=128, max_epochs=20)",
    "ReverseDistillation, 15 epochs at 128 px": (
        "ReverseDistillation({}, image_size=128, max_epochs=15)"
    ),
    "SimpleNet, 10 epochs at 128 px": "SimpleNet({}, image_size=128, max_epochs=10)",
    "FastFlow, 40 epochs at 128 px": "FastFlow({}, image_size=128, max_epochs=40)",
    "CFLOW, 3 epochs at 128 px": "CFLOW({}, image_size=128, max_epochs=3)",
    "DFR, 60 epochs at 128 px": "DFR({}, image_size=128, max_epochs=60)",
    "SPADE at 128 px": "SPADE({}, image_size=128)",
}

ROW = """
import json, resource, sys, time
import numpy as np
from sklearn.metrics import roc_auc_score
import skad.image
from skad.image import *
from skad.metrics import pixel_roc_auc, pro_score
folder, name, weights, code = sys.argv[1:]
data = load_folder(folder, size=(256, 256))
detector = eval(code, {**{n: getattr(skad.image, n) for n in dir(skad.image)},
                       "weights": weights, "name": name})
detector.set_params(random_state=0)
start = time.process_time()
detector.fit(data.X_train)
fit = time.process_time() - start
start = time.process_time()
maps = detector.transform(data.X_test)
score = (time.process_time() - start) / len(maps)
anomaly = -detector.score_samples(data.X_test)
y = np.asarray(data.y_test) == -1
masks = [data.masks_test[i] for i in range(len(maps))]
def auc(kind):
    keep = [k in (kind, "good") for k in data.defects_test]
    return roc_auc_score(y[keep], anomaly[keep])
kinds = sorted(set(data.defects_test) - {"good"})
print(json.dumps({
    "image": roc_auc_score(y, anomaly),
    "pixel": pixel_roc_auc(masks, maps), "pro": pro_score(masks, maps),
    "kinds": {kind: round(auc(kind), 3) for kind in kinds},
    "fit": fit, "score": score,
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def quality(options):
    """Image and pixel ROC AUC and AUPRO of each detector on each set."""
    table = Table(
        "set detector backbone image_auc pixel_auc aupro "
        "fit_cpu_s score_cpu_ms peak_mb image_auc_by_defect".split()
    )
    data = pathlib.Path(options.data)
    for name in options.sets:
        rows = {**ROWS, **TRAINED} if name == "cookie" else ROWS
        for detector, code in rows.items():
            if options.detectors and detector not in options.detectors:
                continue
            for backbone, given in (("resnet18", PRETRAINED), ("gabor", "")):
                arguments = code.format(given).replace("(, ", "(")
                folder = data / "images" / name
                found = json.loads(
                    fresh_process(ROW, folder, name, data / RESNET, arguments)
                )
                table.add(
                    name,
                    detector,
                    backbone,
                    *(found[k] for k in ("image", "pixel", "pro", "fit")),
                    1000 * found["score"],
                    found["peak"],
                    json.dumps(found["kinds"]).replace('"', ""),
                )
    return table


def anomalib():
    """Import what is compared, beside a torch without the operators of torchvision."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float limit) -> Tensor")
    anomalib.library = library  # gone with the last reference
    from anomalib.metrics.aupro import _AUPRO as AUPRO
    from anomalib.models.components import KCenterGreedy, MultiVariateGaussian
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    return KCenterGreedy, MultiVariateGaussian, PatchcoreModel, AUPRO


def manifold(n, d, seed=0):
    """Return points (n, d) near a curved surface of few dimensions, as features are."""
    import torch

    random = torch.Generator().manual_seed(seed)
    latent = torch.randn(n, 8, generator=random)
    wide = torch.tanh(latent @ torch.randn(8, d, generator=random))
    return wide + 0.05 * torch.randn(n, d, generator=random)


def speed(options):
    """Time against anomalib on the same features, one thread."""
    import torch

    from skad.embedding import PatchEmbedding
    from skad.image import PatchCore
    from skad.image._upsampling import upsample
    from skad.image.density._padim import low_rank_factors
    from skad.image.memory._coreset import GreedyKCenter
    from skad.metrics import pro_score

    KCenterGreedy, Gaussian, PatchcoreModel, AUPRO = anomalib()
    table = Table("work ours_s peer_s ratio note".split())

    points, n_picks, n_timed = manifold(47_040, 265), 4_704, 100

    def ours():
        chosen = GreedyKCenter(points, n_picks)
        list(chosen)
        return chosen.picks

    peer = KCenterGreedy(points, 0.1)
    peer.features, picks = points, [torch.tensor(0)]

    def steps():
        for _ in range(n_timed):
            peer.update_distances(picks[-1])
            picks.append(peer.get_new_idx())
            peer.min_distances.scatter_(0, picks[-1][None, None], 0.0)

    time_peer = seconds(steps) * n_picks / n_timed
    time_ours = median_seconds(ours, 3)
    same = sum(int(a) == int(b) for a, b in zip(ours(), picks, strict=False))
    note = f"peer: {n_timed} of {n_picks} steps, extrapolated; same {same} of "
    note += f"{n_timed + 1} first picks"
    table.add(
        "k-center 47,040 x 265 to 4,704",
        time_ours,
        time_peer,
        time_peer / time_ours,
        note,
    )

    features = manifold(60 * 784, 550).reshape(60, 28, 28, 550)
    channels_first = features.permute(0, 3, 1, 2).contiguous()

    def ours_padim():
        rows = features.flatten(1, 2).transpose(0, 1)
        low_rank_factors((rows - rows.mean(1, keepdim=True)).contiguous(), 0.01)

    pair = in_turns(ours_padim, lambda: Gaussian().fit(channels_first), 3)
    table.add("PaDiM fit, 784 places, d = 550, 60 pictures", *ratio(pair), "")

    bank, patches = manifold(4_704, 1_536), manifold(784, 1_536, seed=1)
    model = PatchcoreModel(["layer2", "layer3"], "wide_resnet50_2", pre_trained=False)
    model.memory_bank, model.num_neighbors = bank, 9
    detector = PatchCore(n_neighbors=9)
    detector._set_bank(bank, torch.zeros(len(bank)))
    grid = patches.reshape(1, 28, 28, -1)
    found = []

    def ours_predict():
        near = detector._search(grid)
        largest, place = near[0].flatten().max(0)
        neighbour = near[1].flatten()[place]
        score = detector._of_farthest(
            patches[place][None], largest[None], neighbour[None]
        )
        found[:] = [float(score[0]), upsample(near[0], (224, 224), 4.0)]

    def peer_predict():
        scores, places = model.nearest_neighbors(patches, 1)
        scores, places = scores.reshape(1, -1), places.reshape(1, -1)
        score = model.compute_anomaly_score(scores, places, patches)
        heat = model.anomaly_map_generator(scores.reshape(1, 1, 28, 28), (224, 224))
        found[2:] = [float(score[0]), heat]

    with torch.no_grad():
        pair = in_turns(ours_predict, peer_predict, 11)
        note = f"scores {found[0]:.6g} and {found[2]:.6g}"
        table.add("PatchCore predict beyond the backbone", *ratio(pair), note)
        small = torch.rand(1, 28, 28)
        pair = in_turns(
            lambda: upsample(small, (224, 224), 4.0),
            lambda: model.anomaly_map_generator(small[None], (224, 224)),
            51,
        )
    table.add("map 28 x 28 to 224 x 224, Gaussian 4", *ratio(pair), "")

    random = np.random.default_rng(0)
    masks = np.zeros((80, 256, 256), dtype=bool)
    for mask in masks[::2]:
        top, left = random.integers(0, 200, 2)
        mask[top : top + 30, left : left + 40] = True
    maps = random.normal(size=masks.shape).astype(np.float32) + 1.5 * masks

    def peer_pro():
        metric = AUPRO()
        metric.update(torch.tensor(maps), torch.tensor(masks).long())
        found[:] = [float(metric.compute())]

    pair = in_turns(lambda: pro_score(masks, maps), peer_pro, 3)
    note = f"{pro_score(masks, maps):.6g} and {found[0]:.6g}"
    table.add("AUPRO of 80 x 256 x 256", *ratio(pair), note)

    pictures = random.random((20, 224, 224, 3), dtype=np.float32)
    options = {"backbone": "wide_resnet50_2", "weights": "random"}
    embedding = PatchEmbedding(**options, layers=("layer2", "layer3")).fit(pictures)

    def backbone_alone():
        for start in range(0, 20, 8):
            embedding.feature_maps(torch.tensor(pictures[start : start + 8]))

    pair = in_turns(
        lambda: PatchCore(**options, random_state=0).fit(pictures), backbone_alone, 3
    )
    table.add(
        "PatchCore fit, 20 pictures at 224, against the backbone alone",
        *pair,
        pair[0] / pair[1],
        "ratio: ours in units of the backbone",
    )
    return table


def ratio(pair):
    """Return our seconds, the peer's and how much faster we are."""
    return *pair, pair[1] / pair[0]


START = """
import resource, time
start = time.perf_counter()
import skad.image
from skad.image import PatchCore
loaded = time.perf_counter() - start
import numpy as np
X = np.random.default_rng(0).random((4, 64, 64, 3), dtype=np.float32)
PatchCore(random_state=0).fit(X).score_samples(X)
whole = time.perf_counter() - start
print(loaded, whole, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""

MEMORY = """
import resource, sys
import torch
from bench_images import anomalib, manifold
from skad.image.density._padim import low_rank_factors
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
features = manifold(60 * 784, 550).reshape(60, 28, 28, 550)
if sys.argv[1] == "ours":
    before = peak()
    rows = features.flatten(1, 2).transpose(0, 1)
    low_rank_factors((rows - rows.mean(1, keepdim=True)).contiguous(), 0.01)
else:
    Gaussian = anomalib()[1]
    features = features.permute(0, 3, 1, 2).contiguous()
    before = peak()
    Gaussian().fit(features)
print(peak() - before)
"""


def start(options):
    """Import, the first PatchCore, and the memory of PaDiM's fit."""
    table = Table("work value unit".split())
    runs = [[float(value) for value in fresh_process(START).split()] for _ in range(5)]
    loaded, whole, peak = (statistics.median(column) for column in zip(*runs))  # noqa: B905
    table.add("import skad.image and PatchCore", loaded, "s")
    table.add("the same with a first fit and score, 4 pictures 64 x 64", whole, "s")
    table.add("peak memory of that process", peak, "MB")
    path = f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})\n"
    for who in ("ours", "anomalib"):
        grown = float(fresh_process(path + MEMORY, who))
        table.add(f"PaDiM fit, 784 places, d = 550, 60 pictures, {who}", grown, "MB")
    return table


def main():
    parts = {"quality": quality, "speed": speed, "start": start}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=list(parts))
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--sets", nargs="*", default=["cookie", "magnetic_tile"])
    parser.add_argument("--detectors", nargs="*")
    parser.add_argument("--out", default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args()
    began = time.time()
    for name in options.parts:
        table = parts[name](options)
        table.write(pathlib.Path(options.out) / f"images_{name}.tsv")
    print(f"{time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
