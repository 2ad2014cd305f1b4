"""Pictures and reports of what any detector finds, made from outside."""

from skad._events import Event
from skad.inspection._anomaly_map import AnomalyMapDisplay
from skad.inspection._comparison import DetectorComparisonDisplay
from skad.inspection._feature_blame import FeatureBlameDisplay
from skad.inspection._findings import (
    Findings,
    detection_metrics,
    top_columns,
    write_scores,
)
from skad.inspection._pictures import PictureFindings, ShownPicture, examine_pictures
from skad.inspection._plots import heat_overlay
from skad.inspection._report import write_report
from skad.inspection._rows import RowFindings, examine
from skad.inspection._score_distribution import ScoreDistributionDisplay
from skad.inspection._series import SeriesDisplay
from skad.inspection._threshold import ThresholdDisplay
from skad.inspection._time_series import (
    SeriesFindings,
    examine_series,
    write_events,
)

__all__ = [
    "AnomalyMapDisplay",
    "DetectorComparisonDisplay",
    "Event",
    "FeatureBlameDisplay",
    "Findings",
    "PictureFindings",
    "RowFindings",
    "ScoreDistributionDisplay",
    "SeriesDisplay",
    "SeriesFindings",
    "ShownPicture",
    "ThresholdDisplay",
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
