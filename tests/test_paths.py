"""Paths that are empty, wherever one is given."""

import numpy as np
import pytest

import skad
from skad.datasets import read_table
from skad.export import to_onnx
from skad.image import PictureFiles, load_folder
from skad.image._folder import load_test_folder
from skad.inspection import write_events, write_report, write_scores
from skad.inspection._map_files import MapFiles

X = np.zeros((20, 3))

TAKES_A_PATH = {
    "save": lambda path: skad.save(skad.KNN(), path),
    "load": skad.load,
    "read_table": read_table,
    "load_folder": load_folder,
    "load_test_folder": load_test_folder,
    "PictureFiles": lambda path: PictureFiles([path]),
    "write_report": lambda path: write_report(path, []),
    "write_scores": lambda path: write_scores(path, findings()),
    "write_events": lambda path: write_events(path, findings()),
    "MapFiles": lambda path: MapFiles(path, 1, None, "png"),
    "to_onnx": lambda path: to_onnx(skad.KNN(), path),
    "checkpoint": lambda path: skad.AutoEncoder(checkpoint=path, max_epochs=1).fit(X),
    "weights": lambda path: skad.PaDiM(backbone="resnet18", weights=path).fit(
        np.zeros((4, 32, 32))
    ),
}


def findings():
    steps = np.random.default_rng(0).normal(size=(60, 1))
    detector = skad.SubsequenceKNN(window_size=4).fit(steps)
    return skad.inspection.examine_series(detector, steps, steps)


@pytest.mark.parametrize("name", TAKES_A_PATH)
def test_an_empty_path_is_not_the_current_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for empty in ("", "  "):
        with pytest.raises(ValueError, match=r"=' *' is empty"):
            TAKES_A_PATH[name](empty)
    assert not list(tmp_path.iterdir())
