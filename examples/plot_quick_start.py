"""
Which tumours are anomalous, and in which features
==================================================

A detector learns from normal rows alone and says of new ones how normal they are and
where they are not. Here it learns from benign breast tumours.
"""

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skad import Mahalanobis
from skad.datasets import load_breast_cancer
from skad.inspection import ScoreDistributionDisplay, detection_metrics

data = load_breast_cancer()
train = pd.DataFrame(data.X_train, columns=data.feature_names)
test = pd.DataFrame(data.X_test, columns=data.feature_names)

# %%
# Any detector stands at the end of a pipeline like a classifier. Its threshold is one
# that about 5 % of new normal rows fall below (``false_alarm_rate=0.05``).

model = make_pipeline(StandardScaler(), Mahalanobis(covariance="ledoit_wolf"))
model.set_output(transform="pandas").fit(train)
decision = model.decision_function(test)  # below 0 is an anomaly

for name, value in detection_metrics(data.y_test, decision).items():
    print(f"{name:<18} {value:.3f}")

# %%
# The labels were not used so far. They show how well the scores part the two kinds of
# tumours:

ScoreDistributionDisplay.from_estimator(model, test, data.y_test, X_train=train)
plt.show()

# %%
# ``transform`` returns the anomaly map, a frame with the features' names. Its rows sum
# to the anomaly of the row, so that shares of it can be read off.

maps = model.transform(test)
print("the most anomalous tumours, and the share of their score by feature")
for row in decision.argsort()[:5]:
    share = maps.iloc[row] / maps.iloc[row].sum()
    parts = [f"{name} {part:.0%}" for name, part in share.nlargest(3).items()]
    print(f"row {row:>3}, decision {decision[row]:8.1f}: {', '.join(parts)}")
