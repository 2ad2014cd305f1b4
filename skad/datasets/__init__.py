"""Data to detect anomalies in: tables in files, and sets that scikit-learn ships."""

from skad.datasets._files import Table, check_same_columns, read_table
from skad.datasets._labels import anomaly_labels
from skad.datasets._novelty import load_breast_cancer, load_digits

__all__ = [
    "Table",
    "anomaly_labels",
    "check_same_columns",
    "load_breast_cancer",
    "load_digits",
    "read_table",
]
