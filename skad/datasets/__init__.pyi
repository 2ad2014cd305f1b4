from skad.datasets._files import Table as Table
from skad.datasets._files import check_same_columns as check_same_columns
from skad.datasets._files import read_table as read_table
from skad.datasets._labels import anomaly_labels as anomaly_labels
from skad.datasets._novelty import load_breast_cancer as load_breast_cancer
from skad.datasets._novelty import load_digits as load_digits

__all__ = ["Table", "anomaly_labels", "check_same_columns", "load_breast_cancer", "load_digits", "read_table"]
