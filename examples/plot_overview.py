"""
Scores and maps of handwritten digits
=====================================

Where handwritten digits are not eights: scores on the left, maps on the right. Run as
``python examples/plot_overview.py overview.png`` it writes the picture of the README.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

from skad import KNN
from skad.datasets import load_digits
from skad.inspection import ScoreDistributionDisplay, heat_overlay

data = load_digits(normal_digit=8)
detector = KNN(contamination=0.05).fit(data.X_train)
decision = detector.decision_function(data.X_test)
maps = detector.transform(data.X_test).reshape(-1, *data.image_shape)
images = data.X_test.reshape(-1, *data.image_shape)
print(f"{np.mean(decision[data.y_test == -1] < 0):.0%} of the other digits are flagged")

# %%
# The maps are on one scale for all pictures, so that the eight stays grey.

figure = plt.figure(figsize=(9, 2.7), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(1, 1.05))
ScoreDistributionDisplay.from_predictions(
    decision,
    data.y_test,
    train_decision=detector.decision_function(data.X_train),
    ax=left.subplots(),
    bins=30,
)
left.suptitle("KNN learned from 87 eights", fontsize=10)

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

if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=130)
plt.show()
