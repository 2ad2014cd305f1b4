"""Series; a window of one step lets every row stand for itself, as checks expect."""

from sklearn.linear_model import BayesianRidge

import skad
from tests.settings import Settings

SHAPES = "it compares shapes, and rows in random order have none"
COUNTS = "it counts, and far out is as good a name as any"
ONCE = "it counts edges, and the rows of a table come once"
BEFORE = "an edge's score depends on the edges before it"

DeepAnT = Settings(
    {"window_size": 3, "max_epochs": 2, "hidden_sizes": (8,), "lr": 0.01}
)
Discord = Settings(
    {"window_size": 1}, [{"window_size": 3, "exclude": 1.0, "align": "end"}]
)
KMeansAD = Settings(
    {"window_size": 1, "n_clusters": 5, "normalize": "none"},
    [{"window_size": 3, "align": "center", "normalize": "window"}],
)
LeftMatrixProfile = Settings(
    {"window_size": 3},
    [{"window_size": 3, "channels": "joint", "align": "max", "stride": 2}],
    excused={
        "sign": SHAPES,
        "feature": "a constant has been seen after its first steps",
    },
)
LSTMAutoEncoder = Settings(
    {"window_size": 1, "hidden_size": 8, "max_epochs": 10},
    [{"window_size": 3, "max_epochs": 1, "align": "max", "teacher_forcing": True}],
)
LSTMForecaster = Settings(
    {
        "window_size": 4,
        "stride": 4,
        "horizon": 2,
        "max_epochs": 1,
        "hidden_sizes": (8,),
    }
)
MatrixProfile = Settings(
    {"window_size": 3},
    [
        {"window_size": 4, "channels": "joint", "n_largest": 1, "align": "end"},
        {"window_size": 3, "n_neighbors": 2, "align": "max", "stride": 2},
    ],
    excused={"sign": SHAPES},
)
MIDAS = Settings(
    variants=[{"n_rows": 3, "n_columns": 16, "tick": 0.1}],
    excused={"sign": ONCE, "feature": COUNTS, "rows around": BEFORE},
)
MIDASR = Settings(
    variants=[{"decay": 0.0, "n_columns": 100_000}],
    excused={"sign": ONCE, "feature": COUNTS, "rows around": BEFORE},
)
OmniAnomaly = Settings(
    {"window_size": 1, "hidden_size": 4, "n_flows": 1, "max_epochs": 2},
    [{"window_size": 3, "max_epochs": 1, "n_flows": 2, "n_draws": 2}],
)
PASAD = Settings(
    {"window_size": 1, "rank": 1},
    [{"window_size": 4, "rank": 0.5, "measure": "residual", "align": "end"}],
)
RegressionForecaster = Settings(
    {"window_size": 3},
    [
        {"window_size": 3, "horizon": 2, "stride": 2, "max_windows": 90},
        {"regressor": BayesianRidge(), "window_size": 2},
    ],
)
SpectralResidual = Settings(
    variants=[{"measure": "relative", "window_size": 30}],
    excused={
        ("sign", "relative"): "a series of large steps alone is at its mean",
        "feature": "in a channel that is constant no step stands out",
    },
)
SubsequenceKNN = Settings(
    {"window_size": 1, "n_neighbors": 5},
    [{"window_size": 3, "stride": 2, "n_neighbors": 3}],
)
SubsequenceLOF = Settings(
    {"window_size": 1, "n_neighbors": 20}, [{"window_size": 3, "align": "end"}]
)
USAD = Settings(
    {"window_size": 1, "latent_size": 4, "max_epochs": 2, "hidden_sizes": (16,)},
    [{"window_size": 3, "max_epochs": 1, "stride": 2, "align": "center"}],
)
WindowDetector = Settings(
    {"window_size": 1},
    [
        {"window_size": 3},
        {
            "detector": skad.KNN(n_neighbors=3),
            "window_size": 3,
            "align": "max",
            "stride": 2,
            "batch_size": 7,
            # of its own training windows the default flags none
            "contamination": 0.1,
        },
        {"window_size": 3, "align": "end", "detector": skad.Mahalanobis()},
    ],
)
