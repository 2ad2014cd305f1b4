"""
Save, load and deploy
=====================

A fitted detector is written to one file without pickle, read back to the last bit, and
exported to ONNX for runtimes without Python.
"""

import pathlib
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import skad
from skad.export import to_onnx
from skad.image import PaDiM
from skad.inspection import AnomalyMapDisplay

digits = load_digits()
images = (digits.images / 16).astype(np.float32)
ones, new_ones = train_test_split(images[digits.target == 1], random_state=0)
detector = PaDiM(
    image_size=32, n_features=15, smoothing=0.5, contamination=0.05, random_state=0
).fit(ones)

# %%
# The file holds arrays and their description, nothing that runs when it is loaded; one
# that was changed is refused.

folder = tempfile.TemporaryDirectory()
path = pathlib.Path(folder.name, "ones.skad")
skad.save(detector, path)
loaded = skad.load(path)
new = np.concatenate([new_ones, images[digits.target == 7][:40]])
same = np.array_equal(loaded.score_samples(new), detector.score_samples(new))
print(f"{path.stat().st_size / 1024:.0f} KB, scores are the same: {same}")

content = bytearray(path.read_bytes())
content[len(content) // 2] ^= 1
path.write_bytes(content)
try:
    skad.load(path)
except skad.CorruptFileError as error:
    print("a changed file:", str(error).partition(": ")[2])

# %%
# ONNX
# ----
#
# The model takes pictures in 0..1 and returns the decision function and the map. (Few
# pictures for a Gaussian at each place: new ones are flagged more often than 5 %, which
# ``ConformalDetector`` would mend.)

model = pathlib.Path(folder.name, "ones.onnx")
to_onnx(detector, model)
session = onnxruntime.InferenceSession(model)
decision, maps = session.run(["decision_function", "map"], {"pictures": new[..., None]})
folder.cleanup()
difference = np.abs(maps - detector.transform(new)).max() / maps.max()
print(f"largest difference of the maps: {difference:.0e} of the largest value")
flagged = decision < 0
n_ones = len(new_ones)
print(f"flagged: {flagged[:n_ones].mean():.0%} of the ones,", end=" ")
print(f"{flagged[n_ones:].mean():.0%} of the sevens")

AnomalyMapDisplay.from_predictions(
    new,
    maps,
    threshold=-float(detector.offset_),
    titles=["normal" if value >= 0 else "flagged" for value in decision],
    rows=[flagged.argmin(), n_ones, n_ones + 1],  # a one and two sevens
    vmin=np.quantile(maps[:n_ones], 0.9),
)
plt.show()
