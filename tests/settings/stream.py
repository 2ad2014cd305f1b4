"""Streams of rows."""

from tests.settings import Settings

HalfSpaceTrees = Settings({"n_estimators": 10, "max_depth": 8}, [{"window_size": None}])
RRCF = Settings({"n_estimators": 10}, [{"window_size": 100}])
RSHash = Settings({"n_estimators": 50}, [{"window_size": None}, {"decay": 0.015}])
STORM = Settings(
    {},
    [{"window_size": 30}],
    excused={
        ("outliers", "window_size=30"): "the limit is from thirty rows, of which one is"
        " farther than the next"
    },
)
XStream = Settings({"n_estimators": 20}, [{"window_size": None}])
