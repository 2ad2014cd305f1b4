"""Pictures and reports of what any detector finds, made from outside."""

from skad.inspection._anomaly_map import AnomalyMapDisplay
from skad.inspection._findings import (
    Findings,
    detection_metrics,
    top_columns,
    write_scores,
)
from skad.inspection._pictures import PictureFindings, ShownPicture, examine_pictures
from skad.inspection._plots import ScoreDistributionDisplay, heat_overlay
from skad.inspection._report import write_report
from skad.inspection._rows import RowFindings, examine
from skad.inspection._series import SeriesDisplay
from skad.inspection._time_series import (
    Event,
    SeriesFindings,
    examine_series,
    write_events,
)

__all__ = [
    "AnomalyMapDisplay",
    "Event",
    "Findings",
    "PictureFindings",
    "RowFindings",
    "ScoreDistributionDisplay",
    "SeriesDisplay",
    "SeriesFindings",
    "ShownPicture",
    "detection_metrics",
    "examine",
    "examine_pictures",
    "examine_series",
    "heat_overlay",
    "top_columns",
    "write_events",
    "write_report",
    "write_scores",
]
