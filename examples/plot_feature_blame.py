"""
Which features are to blame
===========================

The anomaly map of a row says which of its features made it anomalous. Drawn for one row
it explains an alarm; drawn for a group it says what the group has in common. The
detector learns from wines of one grower; the others' wines are anomalies to it.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skad import KNN
from skad.inspection import FeatureBlameDisplay

wine = load_wine(as_frame=True)
own = wine.data[wine.target == 0]
train, test = train_test_split(own, test_size=0.3, random_state=0)

model = make_pipeline(StandardScaler(), KNN(contamination=0.05)).fit(train)
for grower in (2, 3):
    other = wine.data[grower == wine.target + 1]
    print(f"grower {grower}: {(model.predict(other) == -1).mean():.0%} are flagged")
print(f"the same grower: {(model.predict(test) == -1).mean():.0%} are flagged")

# %%
# One wine
# --------
#
# The bars are shares of the map. The triangles are no part of it: a map says how far
# off a feature is, not to which side. They compare the wine with the training medians.

third = wine.data[wine.target == 2]  # counted from 0
strangest = model.decision_function(third).argmin()
FeatureBlameDisplay.from_estimator(
    model, third.iloc[[strangest]], X_train=train, n_features=6
)
plt.show()

# %%
# Groups of wines
# ---------------
#
# Each row counts alike, and the whiskers are the quartiles over the rows. The second
# grower's wines lack proline and alcohol; those of the third lack flavanoids and hue.
# A triangle is drawn where three quarters of the wines agree.

figure, axes = plt.subplots(2, 1, figsize=(6.4, 6.2), layout="constrained")
for ax, grower in zip(axes, (2, 3), strict=True):
    FeatureBlameDisplay.from_estimator(
        model,
        wine.data[grower == wine.target + 1],
        X_train=train,
        name=f"KNN, grower {grower}",
        n_features=6,
        ax=ax,
    )
plt.show()
