"""
A large picture in tiles
========================

Pictures that are larger than what a backbone works at, or whose defects are small, are
cut into tiles that overlap; the maps of the tiles are put together. The detector has
seen a photograph of a pagoda in several exposures. In a new one, something small has
changed in two places.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_image

from skad.image import PatchCore, TiledDetector
from skad.inspection import AnomalyMapDisplay

photo = load_sample_image("china.jpg")[30:322, 76:368] / 300
rng = np.random.default_rng(0)


def exposures(picture, n_pictures):
    """Return pictures (n, 288, 288, 3), brighter or darker, moved and with noise."""
    shots = []
    for _ in range(n_pictures):
        down, right = rng.integers(0, 4, 2)
        moved = picture[down : down + 288, right : right + 288]
        noisy = moved * rng.uniform(0.97, 1.03) + rng.normal(0, 0.01, moved.shape)
        shots.append(noisy.clip(0, 1))
    return np.stack(shots)


normal, unchanged = exposures(photo, 4), exposures(photo, 1)

# %%
# The change: a flower of 20 pixels on a wall, and a window that is blurred away.

flower = load_sample_image("flower.jpg")[200:240:2, 300:340:2] / 300
new = photo.copy()
new[158:178, 84:104] = flower
new[248:270, 74:100] = gaussian_filter(new[248:270, 74:100], (6, 6, 0))
mask = np.zeros((1, 288, 288), dtype=bool)
mask[0, 158:178, 84:104] = mask[0, 248:270, 74:100] = True

# %%
# ``TiledDetector`` carries any detector on pictures. One picture is held in memory at a
# time, whatever its size.

detector = TiledDetector(
    PatchCore(coreset_ratio=0.05, smoothing=2.0), tile=96, overlap=32, random_state=0
).fit(normal)
pictures = np.concatenate([exposures(new, 1), unchanged])
maps = detector.transform(pictures)
for title, heat in zip(("changed", "unchanged"), maps, strict=True):
    print(f"{title}: the largest value of the map is {heat.max():.2f}")

AnomalyMapDisplay.from_predictions(
    pictures,
    maps,
    masks=np.concatenate([mask, np.zeros_like(mask)]),
    threshold=1.1 * maps[1].max(),
    titles=["changed", "unchanged"],
    vmin=np.quantile(maps, 0.9),
)
plt.show()
