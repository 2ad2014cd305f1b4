"""Where handwritten digits are not eights: scores on the left, maps on the right.

Draws the picture of the README: `python examples/plot_overview.py [overview.png]`.
"""

import sys

import numpy as np
from matplotlib.figure import Figure

from skad import KNN
from skad.datasets import load_digits
from skad.inspection import ScoreDistributionDisplay, heat_overlay

data = load_digits(normal_digit=8)
detector = KNN(contamination=0.05).fit(data.X_train)
decision = detector.decision_function(data.X_test)
maps = detector.transform(data.X_test).reshape(-1, *data.image_shape)
images = data.X_test.reshape(-1, *data.image_shape)

figure = Figure(figsize=(9, 2.7), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(1, 1.05))
ScoreDistributionDisplay(
    decision, data.y_test, detector.decision_function(data.X_train)
).plot(left.subplots(), bins=30)
left.suptitle("KNN learned from 87 eights", fontsize=10)

# the first picture of some digits; all maps on one scale, so that the eight stays grey
rows = [np.flatnonzero(data.digits_test == digit)[0] for digit in (8, 0, 1, 2, 3, 5)]
axes = right.subplots(2, len(rows))
for (above, below), row in zip(axes.T, rows, strict=True):
    above.imshow(images[row], cmap="gray")
    below.imshow(heat_overlay(images[row], maps[row], largest=maps[rows].max()))
    below.set_xlabel(f"{decision[row]:+.1f}".replace("-", "\N{MINUS SIGN}"), fontsize=9)
    for ax in (above, below):
        ax.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("picture", fontsize=9)
axes[1, 0].set_ylabel("anomaly map", fontsize=9)
right.suptitle("where they are no eights, and the decision function", fontsize=10)

path = sys.argv[1] if len(sys.argv) > 1 else "overview.png"
figure.savefig(path, dpi=130)
print(f"wrote {path}")
