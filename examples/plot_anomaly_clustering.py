"""
Which kinds of defects there are
================================

A detector says which pictures are defective. `AnomalyClustering` goes on from there and
groups pictures by the kind of their defect, without labels: the patches that normal
pictures do not have describe a picture, wherever in it they are.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import adjusted_rand_score

from skad.image import AnomalyClustering

rng = np.random.default_rng(0)
places = np.arange(64)


def cloth(n_pictures):
    """Return pictures of a cloth (n, 64, 64), its threads moved and in other light."""
    moved = rng.uniform(0, 2 * np.pi, size=(n_pictures, 2, 1, 1))
    threads = np.sin(places[:, None] + moved[:, 0]) + np.sin(places + moved[:, 1])
    light = rng.uniform(0.4, 0.6, size=(n_pictures, 1, 1))
    return light + 0.05 * threads + rng.normal(0, 0.02, size=(n_pictures, 64, 64))


normal, pictures = cloth(10), cloth(24)
kinds = np.repeat(["good", "stain", "scratch"], 8)
for picture, kind in zip(pictures, kinds, strict=True):
    i, j = rng.integers(8, 48, size=2)
    if kind == "stain":
        picture[i : i + 8, j : j + 8] -= 0.15
    if kind == "scratch":
        along = np.arange(16)
        picture[i + along, (j + along) % 64] += 0.3

# %%
# What is unusual is told by the normal pictures. Without them it would be told by the
# other pictures, of which two in three have a defect.

clustering = AnomalyClustering(n_clusters=3).fit(pictures, X_normal=normal)
even = AnomalyClustering(n_clusters=3, temperature=1e9).fit(pictures, X_normal=normal)
for name, fitted in (("weighted", clustering), ("all patches alike", even)):
    print(f"{name}: Rand index {adjusted_rand_score(kinds, fitted.labels_):.2f}")

# %%
# The weights show what describes each picture. Two columns are of one cluster.

figure, axes = plt.subplots(4, 6, figsize=(9, 6), layout="constrained")
for cluster in range(3):
    members = np.flatnonzero(clustering.labels_ == cluster)[:4]
    for row, member in zip(axes, members, strict=False):
        left, right = row[2 * cluster : 2 * cluster + 2]
        left.imshow(pictures[member], cmap="gray", vmin=0, vmax=1)
        left.set_title(kinds[member], fontsize="small")
        right.imshow(clustering.patch_weights_[member], cmap="magma")
for axis in axes.flat:
    axis.set_axis_off()
plt.show()
