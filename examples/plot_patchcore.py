"""
Defects in a texture with PatchCore
===================================

Good pictures are cut from the trees of a photograph. In new ones the focus is lost in
places, a scratch crosses them, or something is there that is no tree. ``PatchCore``
learns from good pictures alone and shows where the others are defective. Its default
backbone is a fixed bank of Gabor filters, which needs no weights.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_image

from skad.image import PatchCore
from skad.inspection import AnomalyMapDisplay
from skad.metrics import pixel_roc_auc

photo = load_sample_image("china.jpg") / 255
trees = photo[300:427, 330:570]
side = 64
rng = np.random.default_rng(0)


def cut(n_pictures, first, last):
    """Return pictures (n, 64, 64, 3) from between two columns of the trees."""
    tops = rng.integers(0, len(trees) - side, n_pictures)
    lefts = rng.integers(first, last - side, n_pictures)
    return np.stack(
        [
            trees[top : top + side, left : left + side]
            for top, left in zip(tops, lefts, strict=True)
        ]
    )


good, held_out, new = cut(30, 0, 130), cut(20, 90, 180), cut(5, 130, 240)

# %%
# Three of the new pictures get a defect:

down, across = np.mgrid[:side, :side]
masks = np.zeros((len(new), side, side), dtype=bool)
masks[0] = (down - 32) ** 2 + (across - 28) ** 2 < 81
masks[1] = abs(down - 0.6 * across - 10) < 1.5
masks[2, 20:36, 30:50] = True
defects = [
    gaussian_filter(new[0], (2.5, 2.5, 0)),  # out of focus
    np.full((side, side, 3), 0.8),  # a scratch
    photo[360:424, 205:269],  # tiles of a roof
]
for picture, mask, defect in zip(new, masks, defects, strict=False):
    picture[mask] = defect[mask]

# %%
# The detector keeps a core-set of the good patches. Its own threshold leaves a
# picture's patches out of that picture's score; but these pictures overlap, so that
# others hold the same patches, and the threshold is too strict. Pictures from another
# part of the photograph give a better one. ``inspect`` returns scores and maps from one
# pass.

detector = PatchCore(smoothing=2.0, random_state=0).fit(good)
normal, found = detector.inspect(held_out), detector.inspect(new)
threshold = np.quantile(-normal.scores, 0.95)
map_threshold = np.quantile(normal.maps.max(axis=(1, 2)), 0.95)
anomaly = -found.scores
for value, mask in zip(anomaly, masks, strict=True):
    kind = "defect" if mask.any() else "good"
    print(f"{kind:<6} anomaly {value:.2f}, flagged: {value > threshold}")

# %%
# The contour is where a map is larger than the largest values of the held-out pictures'
# maps. All maps are on one scale.

AnomalyMapDisplay.from_predictions(
    new,
    found.maps,
    masks=masks,
    threshold=map_threshold,
    titles=[f"anomaly {value:.2f}" for value in anomaly],
)
plt.show()
print(f"ROC AUC over pixels: {pixel_roc_auc(masks, found.maps):.3f}")
