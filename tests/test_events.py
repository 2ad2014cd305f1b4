"""Events from flagged steps: which stretches they are, and how long they last."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from skad.calibration import Event, to_events


def naive(flagged, gap, least):
    """Return (start, end) of events by going from step to step."""
    events = []
    for row in np.flatnonzero(flagged):
        if events and row - events[-1][1] - 1 <= gap:
            events[-1][1] = row
        else:
            events.append([row, row])
    return [(a, b) for a, b in events if b - a + 1 >= least]


@pytest.mark.parametrize("gap", [0, 1, 3, 50])
@pytest.mark.parametrize("least", [0, 1, 2, 5])
def test_events_are_those_of_a_walk_over_the_steps(gap, least):
    random = np.random.default_rng(gap + least)
    for share in (0, 0.1, 0.5, 0.9, 1):
        flagged = random.random(60) < share
        score = random.random(60)
        found = to_events(flagged, score, merge_gap=gap, min_duration=least)
        assert [(e.start, e.end) for e in found] == naive(flagged, gap, least)
        for event in found:
            own = np.arange(event.start, event.end + 1)
            assert event.n_steps == len(own)
            alarms = own[flagged[own]]
            assert event.peak == alarms[np.argmax(score[alarms])]
            assert event.score == score[event.peak]


def test_labels_of_detectors_and_of_stream_thresholds_are_taken():
    assert to_events([1, -1, -1, 1]) == [Event(1, 2, 1, 2)]
    assert to_events([False, True]) == [Event(1, 1, 1, 1)]
    assert to_events([1, 1]) == []
    with pytest.raises(ValueError, match="labels hold 0"):
        to_events([0, 1])
    with pytest.raises(ValueError, match=r"anomaly_score has shape \(1,\)"):
        to_events([1, -1], [3.0])
    with pytest.raises(ValueError, match="times has 1"):
        to_events([1, -1], times=[3])


@pytest.mark.parametrize("gap", ["10min", "600s", "600000ms", timedelta(minutes=10)])
def test_gaps_and_durations_in_time(gap):
    minutes = [0, 5, 10, 21, 25, 30, 60, 61]
    times = pd.Timestamp("2024-03-01") + pd.to_timedelta(minutes, "min")
    labels = [-1, -1, 1, -1, 1, -1, -1, -1]
    found = to_events(labels, times=times, merge_gap=gap)
    assert [(e.start, e.end) for e in found] == [(0, 1), (3, 5), (6, 7)]
    assert found[1].start_time == "2024-03-01 00:21:00"
    assert found[1].end_time == "2024-03-01 00:30:00"
    found = to_events(labels, times=times, merge_gap=gap, min_duration="5min")
    assert [(e.start, e.end) for e in found] == [(0, 1), (3, 5)]
    # a gap of 16 minutes, without a step in it that is normal
    found = to_events(labels, times=times, merge_gap="16min")
    assert [(e.start, e.end) for e in found] == [(0, 5), (6, 7)]


def test_no_event_crosses_from_one_series_to_another():
    groups = ["a", "b", "a", "b", "a", "b"]
    labels = [-1, 1, -1, 1, 1, -1]
    found = to_events(labels, groups=groups, merge_gap=5)
    assert [(e.start, e.end, e.n_steps) for e in found] == [(0, 2, 2), (5, 5, 1)]


def test_no_event_runs_over_a_gap_in_the_times():
    minutes = np.r_[np.arange(20), 60 + np.arange(20)]
    times = pd.Timestamp("2024-03-01") + pd.to_timedelta(minutes, "min")
    flagged = np.zeros(40, dtype=bool)
    flagged[[15, 18, 19, 20, 21, 24]] = True

    def spans(**options):
        found = to_events(flagged, times=times, **options)
        return [(event.start, event.end) for event in found]

    apart = [(15, 15), (18, 19), (20, 21), (24, 24)]
    assert spans() == apart
    assert spans(merge_gap=2) == spans(merge_gap="3min") == [(15, 19), (20, 24)]
    assert spans(merge_gap=2, min_duration=5) == [(15, 19), (20, 24)]
    # a time as long as the gap closes it, and one shorter than a step parts nothing
    assert spans(merge_gap="41min") == spans(merge_gap=2, longest_step=None)
    assert spans(merge_gap="41min") == [(15, 24)]
    assert spans(merge_gap="10s") == apart
    # the flagged steps need not be those beside the gap
    flagged[[19, 20]] = False
    assert spans(merge_gap=3) == [(15, 18), (21, 24)]
    # steps at any times have no gaps
    minutes = np.cumsum(np.random.default_rng(0).exponential(size=40))
    assert len(to_events(np.ones(40, dtype=bool), times=minutes)) == 1
    with pytest.raises(ValueError, match="times go back within a series"):
        to_events([1, -1], times=[2, 1])
    with pytest.raises(ValueError, match="longest_step=0"):
        to_events([1, -1], times=[1, 2], longest_step=0)


@pytest.mark.parametrize("gap", [100, "1h"])
@pytest.mark.parametrize("longest", [1.5, None])
def test_no_series_ends_in_the_next_one_however_near_they_are(gap, longest):
    groups = np.repeat(["a", "b", "c"], 20)
    times = pd.date_range("2024-03-01", periods=60, freq="min")
    flagged = np.zeros(60, dtype=bool)
    flagged[[15, 19, 20, 24, 39, 40]] = True
    found = to_events(
        flagged, groups=groups, times=times, merge_gap=gap, longest_step=longest
    )
    assert [(e.start, e.end) for e in found] == [(15, 19), (20, 39), (40, 40)]


def test_gaps_are_those_of_each_series():
    """Machines take turns, so that their rows are hours apart in the table alone."""
    groups = np.tile(["a", "b"], 30)
    times = np.repeat(np.arange(30.0), 2)
    times[40:] += 10
    flagged = np.ones(60, dtype=bool)
    found = to_events(flagged, groups=groups, times=times, merge_gap=50)
    spans = [(event.start, event.end, event.n_steps) for event in found]
    assert spans == [(0, 38, 20), (40, 58, 10), (1, 39, 20), (41, 59, 10)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"merge_gap": -1}, "merge_gap=-1"),
        ({"merge_gap": 1.5}, "merge_gap=1.5"),
        ({"min_duration": "5 weeks"}, "min_duration='5 weeks'"),
        ({"min_duration": "5min"}, "needs times that are dates"),
        ({"min_duration": "5min", "times": [1.0, 2.0]}, "needs times that are dates"),
    ],
)
def test_extents_that_make_no_sense(options, words):
    with pytest.raises(ValueError, match=words):
        to_events([1, -1], **options)
