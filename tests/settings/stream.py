"""Streams of rows."""

from tests.settings import Settings

HalfSpaceTrees = Settings({"n_estimators": 10, "max_depth": 8}, [{"window_size": None}])
RSHash = Settings({"n_estimators": 50}, [{"window_size": None}])
XStream = Settings({"n_estimators": 20}, [{"window_size": None}])
