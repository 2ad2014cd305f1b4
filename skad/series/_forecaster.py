"""Networks that forecast: a time step is as anomalous as its forecast is wrong.

A method writes `_network(shape)`; the network's `map(x)` of shape (b, k, c) tells for
windows (b, l, c) how wrong the forecasts of their last `k` steps are, each made from
the steps before alone. `_scored_steps()` returns `k`. A network whose scores are not
the sum of its map writes `anomaly(x)` of shape (b, k) as well.
"""

from skad._parameters import with_parameters
from skad.series._forecasting import ForecastDetector
from skad.series._network import SeriesNetwork


@with_parameters
class Forecaster(ForecastDetector, SeriesNetwork):
    """Base of networks that forecast; the module says what a method writes."""
