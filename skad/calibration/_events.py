"""From flagged time steps to events: what `skad._events` makes, where alarms live."""

from skad._events import Event, to_events

__all__ = ["Event", "to_events"]
