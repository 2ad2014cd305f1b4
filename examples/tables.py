"""A table: which tumours are anomalous, and in which features.

Learns from benign breast tumours only and prints the features in which the most
anomalous new ones stand out.
"""

import pandas as pd
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skad import Mahalanobis
from skad.datasets import load_breast_cancer
from skad.inspection import detection_metrics

data = load_breast_cancer()
train = pd.DataFrame(data.X_train, columns=data.feature_names)
test = pd.DataFrame(data.X_test, columns=data.feature_names)

model = make_pipeline(StandardScaler(), Mahalanobis(covariance="ledoit_wolf"))
model.set_output(transform="pandas").fit(train)
decision = model.decision_function(test)

for name, value in detection_metrics(data.y_test, decision).items():
    print(f"{name:<18} {value:.3f}")

maps = model.transform(test)  # a frame with the features' names
print("\nthe most anomalous tumours, and the share of their score by feature")
for row in decision.argsort()[:5]:
    share = maps.iloc[row] / maps.iloc[row].sum()
    parts = [f"{name} {part:.0%}" for name, part in share.nlargest(3).items()]
    print(f"row {row:>3}, decision {decision[row]:8.1f}: {', '.join(parts)}")
