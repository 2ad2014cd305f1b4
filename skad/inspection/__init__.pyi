from skad.inspection._anomaly_map import AnomalyMapDisplay as AnomalyMapDisplay
from skad.inspection._comparison import DetectorComparisonDisplay as DetectorComparisonDisplay
from skad.inspection._feature_blame import FeatureBlameDisplay as FeatureBlameDisplay
from skad.inspection._findings import Findings as Findings
from skad.inspection._findings import detection_metrics as detection_metrics
from skad.inspection._findings import top_columns as top_columns
from skad.inspection._findings import write_scores as write_scores
from skad.inspection._pictures import PictureFindings as PictureFindings
from skad.inspection._pictures import ShownPicture as ShownPicture
from skad.inspection._pictures import examine_pictures as examine_pictures
from skad.inspection._plots import heat_overlay as heat_overlay
from skad.inspection._report import write_report as write_report
from skad.inspection._rows import RowFindings as RowFindings
from skad.inspection._rows import examine as examine
from skad.inspection._score_distribution import ScoreDistributionDisplay as ScoreDistributionDisplay
from skad.inspection._series import SeriesDisplay as SeriesDisplay
from skad.inspection._threshold import ThresholdDisplay as ThresholdDisplay
from skad.inspection._time_series import Event as Event
from skad.inspection._time_series import SeriesFindings as SeriesFindings
from skad.inspection._time_series import examine_series as examine_series
from skad.inspection._time_series import write_events as write_events

__all__ = ["AnomalyMapDisplay", "DetectorComparisonDisplay", "Event", "FeatureBlameDisplay", "Findings", "PictureFindings", "RowFindings", "ScoreDistributionDisplay", "SeriesDisplay", "SeriesFindings", "ShownPicture", "ThresholdDisplay", "detection_metrics", "examine", "examine_pictures", "examine_series", "heat_overlay", "top_columns", "write_events", "write_report", "write_scores"]
