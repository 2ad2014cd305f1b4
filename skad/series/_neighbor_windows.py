"""Windows whose neighbours lie elsewhere in time, not where the window itself is."""

from contextlib import contextmanager
from numbers import Real

from sklearn.pipeline import Pipeline

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.neighbors._apart import Apart
from skad.series._windowed import WindowLift


@with_parameters
class NeighborWindows(WindowLift):
    """Base of methods whose head compares windows with their nearest neighbours.

    Parameters
    ----------
    exclude : float, default=0.5
        Share of a window, at most 1: training windows that start at most so many steps
        from one are no neighbours of it, nor is it itself. A window that is scored and
        equals a training window is taken for that; others are compared with all. 0
        leaves out the window itself alone.
    """

    exclude: float = 0.5

    _parameter_constraints = {"exclude": [Interval(Real, 0, 1, closed="both")]}

    @contextmanager
    def _knowing(self, head, places):
        if isinstance(head, Pipeline):
            head = head.steps[-1][1]
        if not hasattr(head, "_apart"):  # it does not look for neighbours
            yield
            return
        apart = Apart(places, int(self.exclude * self.window_size_))
        n_others = len(places) - apart.most_near()
        if n_others < head._fewest_others():
            raise ValueError(
                f"{n_others} of {len(places)} training windows start more than "
                f"exclude={self.exclude} of window_size={self.window_size_} steps from "
                f"each other one, {head._fewest_others()} are needed: pass fewer "
                "n_neighbors, a smaller window_size or exclude, or more steps."
            )
        head._apart = apart
        try:
            yield
        finally:
            del head._apart  # the search knows it now
