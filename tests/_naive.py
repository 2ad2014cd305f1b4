"""Slow, obvious versions of what the package computes fast."""

from itertools import pairwise

import numpy as np


def distance(x, y, metric, p=2):
    """Distance between two rows, written out."""
    gap = np.abs(np.asarray(x, float) - np.asarray(y, float))
    if metric == "sqeuclidean":
        return (gap**2).sum()
    if metric == "cosine":
        return 1 - (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())
    p = {"euclidean": 2, "manhattan": 1}.get(metric, p)
    return (gap**p).sum() ** (1 / p)


def neighbor_distances(X, Q, k, metric, p=2, own=False):
    """Ascending distances from each row of `Q` to its `k` nearest rows of `X`.

    With `own`, row i of `Q` is row i of `X` and is not its own neighbour.
    """
    found = []
    for i, query in enumerate(Q):
        distances = [
            distance(query, row, metric, p)
            for j, row in enumerate(X)
            if not (own and i == j)
        ]
        found.append(sorted(distances)[:k])
    return np.array(found)


# ------------------------------------------------------------------- metrics of series


def events_of(mask):
    """[(first, last)] of the runs of True, both inclusive."""
    found, start = [], None
    for i, value in enumerate([*mask, False]):
        if value and start is None:
            start = i
        if not value and start is not None:
            found.append((start, i - 1))
            start = None
    return found


def faded_labels(anomalous, window, form):
    """The labels of one buffer, and the merged events (first, last) with buffers."""
    n, half = len(anomalous), window // 2
    behind = half if form == "tsb" else max(half - 1, 0)
    labels = np.asarray(anomalous, float)
    touched = np.array(anomalous, bool)
    for first, last in events_of(anomalous):
        for d in range(1, half + 1):
            if first - d >= 0:
                labels[first - d] += np.sqrt(1 - d / window)
                touched[first - d] = True
        for d in range(1, behind + 1):
            if last + d < n:
                labels[last + d] += np.sqrt(1 - d / window)
                touched[last + d] = True
    if form == "original":
        merged = events_of(touched)
    else:
        # the two-sided buffers touch or overlap
        merged = []
        for first, last in events_of(anomalous):
            low, high = max(first - half, 0), min(last + half, n - 1)
            if merged and first - half <= merged[-1][2] + half:
                merged[-1] = (merged[-1][0], high, last)
            else:
                merged.append((low, high, last))
        merged = [(low, high) for low, high, _ in merged]
    return np.minimum(labels, 1), merged


def volume(anomalous, score, window, form, n_thresholds=250):
    """(VUS-PR, VUS-ROC), threshold by threshold and buffer by buffer."""
    n = len(score)
    thresholds = np.sort(score)[::-1][np.linspace(0, n - 1, n_thresholds).astype(int)]
    pr, roc = [], []
    for w in range(window + 1):
        labels, merged = faded_labels(anomalous, w, form)
        recalls, fall_outs, precisions = [0.0], [0.0], [1.0]
        for threshold in thresholds:
            flagged = score >= threshold
            true = (labels * flagged).sum()
            buffers = labels[~anomalous]
            if form == "tsb":
                buffers = buffers * flagged[~anomalous]
            positives = anomalous.sum() + buffers.sum() / 2
            found = [flagged[low : high + 1].any() for low, high in merged]
            recalls.append(min(true / positives, 1) * np.mean(found))
            fall_out = (flagged.sum() - true) / (n - positives)
            fall_outs.append(fall_out if form == "tsb" else min(fall_out, 1))
            precisions.append(true / flagged.sum())
        area = 0.0
        for k in range(1, len(recalls)):
            height = precisions[k]
            if form == "original":
                height = (precisions[k] + precisions[k - 1]) / 2
            area += (recalls[k] - recalls[k - 1]) * height
        pr.append(area)
        roc.append(np.trapezoid([*recalls, 1], [*fall_outs, 1]))
    return np.mean(pr), np.mean(roc)


def range_reward(mask, other, alpha, bias, cardinality):
    """Mean reward of the runs of `mask` (Tatbul et al., equations 4 to 9)."""
    total, runs = 0.0, events_of(mask)
    for first, last in runs:
        length = last - first + 1
        weights = {
            "flat": [1] * length,
            "front": [length - i for i in range(length)],
            "back": [i + 1 for i in range(length)],
            "middle": [
                i if i <= length / 2 else length - i + 1 for i in range(1, length + 1)
            ],
        }[bias]
        overlap, count = 0.0, 0
        for low, high in events_of(other):
            common = [i for i in range(first, last + 1) if low <= i <= high]
            count += bool(common)
            overlap += sum(weights[i - first] for i in common) / sum(weights)
        if cardinality == "reciprocal" and count > 1:
            overlap /= count
        total += alpha * (count > 0) + (1 - alpha) * overlap
    return total / len(runs)


def affiliation(anomalous, flagged):
    """(Precision, recall) by sums over quarter steps, on which all is linear."""
    n, cell = len(anomalous), 0.25
    events = [(first, last + 1) for first, last in events_of(anomalous)]
    alarms = [(first, last + 1) for first, last in events_of(flagged)]
    middles = [(a[1] + b[0]) / 2 for a, b in pairwise(events)]
    precisions, recalls = [], []
    for (start, stop), low, high in zip(
        events, [0, *middles], [*middles, n], strict=True
    ):
        here = [(max(a, low), min(b, high)) for a, b in alarms if a < high and b > low]
        if not here:
            recalls.append(0.0)
            continue
        chances = []
        for a, b in here:
            for x in np.arange(a + cell / 2, b, cell):
                d = max(start - x, x - stop, 0)
                reach = min(high, stop + d) - max(low, start - d)
                chances.append(1 - reach / (high - low) if d else 1.0)
        precisions.append(np.mean(chances))
        chances = []
        for y in np.arange(start + cell / 2, stop, cell):
            d = min(max(a - y, y - b, 0) for a, b in here)
            reach = min(high, y + d) - max(low, y - d)
            chances.append(1 - reach / (high - low))
        recalls.append(np.mean(chances))
    return np.mean(precisions) if precisions else np.nan, np.mean(recalls)


def proximity(anomalous, flagged, early, delay):
    """(Precision, recall) of PATE for one pair of buffers, step by step."""
    n, events = len(anomalous), events_of(anomalous)
    true = false = missed = 0.0
    zone = {}
    behind = -1
    for j, (first, last) in enumerate(events):
        following = events[j + 1][0] if j + 1 < len(events) else n
        end = min(last + delay, following - 1)
        begin = max(0, first - early, behind + 1)
        centre = (first + last) / 2
        hit = any(flagged[first : last + 1])
        for x in range(begin, first):
            zone[x] = 1 - (centre - x) / (centre - begin) if hit else 0.0
        for x in range(last + 1, end + 1):
            zone[x] = 1 - (x - centre) / (end - centre)
        behind = end
        if not hit:
            missed += last - first + 1
            continue
        low = next(x for x in range(first, last + 1) if flagged[x])
        high = low
        while high < last and flagged[high + 1]:
            high += 1
        full = first + high - low + 1
        most = sum(last - y for y in range(first, last + 1))
        for x in range(first, last + 1):
            if not flagged[x]:
                away = sum(abs(x - y) for y in range(first, full + 1))
                missed += 1 if x <= full or most == 0 else 1 - away / most
    for x in range(n):
        if flagged[x]:
            weight = 1.0 if anomalous[x] else zone.get(x, 0.0)
            true, false = true + weight, false + 1 - weight
    precision = true / (true + false) if true + false else 0.0
    return precision, true / (true + missed) if true + missed else 0.0


def adjusted_f1(anomalous, flagged, rule):
    """F1 after each event was set as a whole where `rule(its predictions)` says so.

    The rule returns True, False, or None to leave the predictions as they are.
    """
    adjusted = np.array(flagged, bool)
    for first, last in events_of(anomalous):
        verdict = rule(flagged[first : last + 1])
        if verdict is not None:
            adjusted[first : last + 1] = verdict
    true = (adjusted & anomalous).sum()
    return 2 * true / (adjusted.sum() + anomalous.sum())
