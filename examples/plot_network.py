"""
A network, its progress and its losses
======================================

Networks are trained by one loop that reports to scikit-learn's callbacks: a progress
bar needs no setting of the detector. An autoencoder learns to rebuild the digit 0, and
cannot rebuild the others.
"""

import matplotlib.pyplot as plt
from sklearn.callback import ProgressBar

from skad import AutoEncoder
from skad.datasets import load_digits
from skad.inspection import AnomalyMapDisplay, ScoreDistributionDisplay

data = load_digits(normal_digit=0)
X_train, X_test = data.X_train / 16, data.X_test / 16

detector = AutoEncoder(
    latent_size=6, max_epochs=60, lr=3e-3, contamination=0.05, random_state=0
)
detector.set_callbacks(ProgressBar()).fit(X_train)

# %%
# ``history_`` has the losses of every epoch.

losses = [epoch["train_loss"] for epoch in detector.history_]
print(f"loss {losses[0]:.4f} at first, {losses[-1]:.4f} at last")
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.plot(losses, color="black")
left.set(xlabel="epoch", ylabel="loss", yscale="log")
ScoreDistributionDisplay.from_estimator(
    detector, X_test, data.y_test, X_train=X_train, ax=right
)
plt.show()

# %%
# The map is the error of each pixel: the strokes that are not those of a zero.

first = [list(data.digits_test).index(digit) for digit in (0, 1, 4, 7)]
AnomalyMapDisplay.from_predictions(
    X_test[first].reshape(-1, 8, 8),
    detector.transform(X_test[first]).reshape(-1, 8, 8),
    titles=[f"digit {data.digits_test[row]}" for row in first],
)
plt.show()
