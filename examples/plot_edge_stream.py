"""
A burst in a stream of edges
============================

Who calls whom, and when: a computer network is a stream of edges. ``MIDASR`` keeps
counts of edges and of nodes in tables of fixed size and compares the present with all
that came before. In the hundredth minute, one machine starts to try all others. The
stream is made.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from skad import MIDASR
from skad.calibration import SPOT
from skad.inspection import SeriesDisplay

rng = np.random.default_rng(0)
n_machines, n_minutes = 60, 150
# each machine has a few others that it talks to
partners = rng.integers(n_machines, size=(n_machines, 4))


def minute(t):
    """Return the edges (m, 3) of a minute: source, destination, time."""
    source = rng.integers(n_machines, size=rng.poisson(60))
    destination = partners[source, rng.integers(4, size=len(source))]
    return np.stack([source, destination, np.full(len(source), t)], axis=1)


edges, is_scan = [], []
for t in range(n_minutes):
    usual = minute(t)
    edges.append(usual)
    is_scan.append(np.zeros(len(usual), dtype=bool))
    if 100 <= t < 104:  # machine 7 tries everybody
        everybody = np.arange(n_machines)
        scan = np.stack([np.full(n_machines, 7), everybody, np.full(n_machines, t)], 1)
        edges.append(scan)
        is_scan.append(np.ones(n_machines, dtype=bool))
edges, is_scan = np.concatenate(edges), np.concatenate(is_scan)

# %%
# The first 40 minutes are learned; then each edge is scored and learned as it comes.
# Memory does not grow with the stream.

seen = edges[:, 2] < 40
watch = MIDASR(random_state=0).fit(edges[seen])
anomaly = -watch.score_stream(edges[~seen])
later = edges[~seen]
scan = is_scan[~seen]
print(f"ROC AUC of the edges of the scan: {roc_auc_score(scan, anomaly):.3f}")

# %%
# ``SPOT`` turns the scores into alarms: from the next 30 minutes it learns how large
# scores are by themselves, and keeps to a stated risk of false alarms as far as scores
# are independent.

calm = later[:, 2] < 70
spot = SPOT(risk=1e-4).fit(anomaly[calm])
alarms = spot.predict(anomaly[~calm]) == -1
true = scan[~calm]
print(f"{np.sum(alarms & true)} of {true.sum()} edges of the scan raise an alarm,")
print(f"and {np.sum(alarms & ~true)} of {np.sum(~true)} others")
sources, counts = np.unique(later[~calm][alarms][:, 0], return_counts=True)
print(f"machine {sources[counts.argmax()]} raises most of them")

_, ax = plt.subplots(figsize=(6.4, 2.4), layout="constrained")
SeriesDisplay.from_predictions(
    later,
    -np.log1p(anomaly),  # a scan scores thousands of times the usual
    threshold=-np.log1p(spot.threshold_),
    y=np.where(scan, -1, 1),
    ax=ax,
)
ax.set_title("score, as a logarithm", loc="left", fontsize=9)
ax.set_xlabel("edge (green: edges of the scan)")
plt.show()
