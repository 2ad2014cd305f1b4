"""Pictures and reports of what any detector finds, made from outside."""

from skad.inspection._anomaly_map import AnomalyMapDisplay
from skad.inspection._findings import (
    Findings,
    detection_metrics,
    examine,
    top_columns,
    write_scores,
)
from skad.inspection._plots import ScoreDistributionDisplay, heat_overlay
from skad.inspection._report import write_report

__all__ = [
    "AnomalyMapDisplay",
    "Findings",
    "ScoreDistributionDisplay",
    "detection_metrics",
    "examine",
    "heat_overlay",
    "top_columns",
    "write_report",
    "write_scores",
]
