"""Pictures: how well kinds of defects are told apart without labels.

    OMP_NUM_THREADS=1 python benchmarks/bench_clustering.py --data ../shared/data

Test pictures, good ones among them, are clustered into as many clusters as there are
kinds: by the mean of their patches, by the mean in which patches weigh that other
pictures do not have, and by that in which those weigh that normal pictures do not have,
which come from the training pictures. Pictures are of 128 x 128. Writes
``benchmarks/results/images_clustering.tsv``.
"""

import argparse
import pathlib

import numpy as np
from _measure import Table
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from skad.embedding import PatchEmbedding
from skad.image import AnomalyClustering, load_folder

RESNET = "weights/resnet18_conv1_to_layer3_bnfolded.npz"
EVEN = 1e9  # the temperature at which all patches weigh the same


def drawn(kinds, most, random):
    """Return at most so many pictures of each kind, by number."""
    parts = [
        random.permutation(np.flatnonzero(kinds == kind)) for kind in np.unique(kinds)
    ]
    return np.sort(np.concatenate([part[:most] for part in parts]))


def clustering(options):
    """Mutual information and Rand index of clusters and kinds."""
    table = Table("set backbone weights seed n_clusters nmi ari".split())
    data = pathlib.Path(options.data)
    for name in options.sets:
        pictures = load_folder(data / "images" / name, size=(128, 128))
        kinds = np.asarray(pictures.defects_test)
        for backbone in options.backbones:
            weights = {} if backbone == "gabor" else {"weights": data / RESNET}
            embedding = PatchEmbedding(backbone, **weights, batch_size=16)
            for seed in range(options.seeds):
                random = np.random.default_rng(seed)
                rows = drawn(kinds, options.pictures, random)
                good = random.permutation(pictures.X_train.shape[0])[: options.pictures]
                good, X = pictures.X_train[np.sort(good)], pictures.X_test[rows]
                n_clusters = len(set(kinds))
                for how, temperature, normal in (
                    ("even", EVEN, good),  # the same with and without
                    ("others", 0.4, None),
                    ("normal", 0.4, good),
                ):
                    model = AnomalyClustering(
                        n_clusters, temperature=temperature, embedding=embedding
                    )
                    labels = model.fit_predict(X, X_normal=normal)
                    table.add(
                        name,
                        backbone,
                        how,
                        seed,
                        n_clusters,
                        normalized_mutual_info_score(kinds[rows], labels),
                        adjusted_rand_score(kinds[rows], labels),
                    )
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--sets", nargs="*", default=["cookie", "magnetic_tile"])
    parser.add_argument("--backbones", nargs="*", default=["gabor", "resnet18"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=32, help="of a kind, at most")
    parser.add_argument("--out", default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args()
    clustering(options).write(pathlib.Path(options.out) / "images_clustering.tsv")


if __name__ == "__main__":
    main()
