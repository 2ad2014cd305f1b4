"""The table of all detectors of pictures is whole, and says why what is weak is so."""

import math
import pathlib

import pytest

import skad
from benchmarks._picture_rows import (
    BASELINES,
    COLUMNS,
    KEY,
    LEFT_OUT,
    REASONS,
    SETS,
    below,
    reason,
    rows_of,
)

ROWS = rows_of(
    pathlib.Path(__file__).parents[1] / "benchmarks" / "results" / "images_all.tsv"
)
PUBLIC = {name for name, cls in skad.all_detectors() if cls._data == "pictures"}


def test_every_detector_of_pictures_is_measured_or_left_out_with_a_reason():
    measured = {row["detector"] for row in ROWS if row["set"] == SETS[0]}
    assert measured - set(BASELINES) == PUBLIC - set(LEFT_OUT)
    assert set(LEFT_OUT) <= PUBLIC
    assert all(LEFT_OUT.values())


@pytest.mark.parametrize("name", SETS)
def test_both_baselines_stand_beside(name):
    found = [row["detector"] for row in ROWS if row["set"] == name]
    assert set(BASELINES) <= set(found)


def test_no_row_is_there_twice_and_none_is_without_figures_unsaid():
    assert all(list(row) == COLUMNS for row in ROWS)
    keys = [tuple(row[name] for name in KEY) for row in ROWS]
    assert len(set(keys)) == len(keys)
    for row in ROWS:
        if row["note"]:
            assert math.isnan(float(row["image_auc"])), row
            continue
        assert 0 <= float(row["image_auc"]) <= 1, row
        assert bool(row["pixel_auc"]) == bool(row["aupro"]), row
        for column in ("pixel_auc", "aupro"):
            assert 0 <= float(row[column] or 0) <= 1, row


def test_what_is_below_a_baseline_has_its_reason_and_nothing_else_has_one():
    weak = below(ROWS)
    assert weak
    for row in ROWS:
        assert row["reason"] == (reason(row) if row in weak else ""), row
        assert bool(row["reason"]) == (row in weak), (row["detector"], row["set"])


def test_no_reason_is_given_in_vain():
    weak = {(row["detector"], row["set"]) for row in below(ROWS)}
    for name, words in REASONS.items():
        sets = words if isinstance(words, dict) else SETS
        assert any((name, one) in weak for one in sets), name


def test_rows_below_the_better_baseline_are_found():
    rows = [
        {"set": "cookie", "detector": kind, "image_auc": figure}
        for kind, figure in (
            ("mean_picture", "0.9"),
            ("nearest_picture", "0.7"),
            ("PaDiM", "0.9"),
            ("STFPM", "0.8"),
            ("SPADE", "nan"),
        )
    ]
    assert [row["detector"] for row in below(rows)] == ["STFPM"]
