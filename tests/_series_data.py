"""The shared real series and labels, as the peers' figures were taken on them."""

import csv
import json

import numpy as np

NAB = {
    "nab_ec2_latency": "realKnownCause/ec2_request_latency_system_failure.csv",
    "nab_nyc_taxi": "realKnownCause/nyc_taxi.csv",
}
SMD = {"smd_1-7": "machine-1-7", "smd_2-1": "machine-2-1"}


def load_series(folder, name):
    """Return X (t, c) and y (t,), 1 an anomaly, of a shared series with peers."""
    folder = folder / "series"
    if name in NAB:
        return _nab(folder / "nab", NAB[name])
    if name in SMD:
        data = np.load(folder / "smd" / f"{SMD[name]}.npz")
        return data["test"].astype(float), data["label"].astype(int)
    [path] = (folder / "ucr").glob(f"{name.removeprefix('ucr_')}_*.txt")
    x = np.array(path.read_text().split(), dtype=float)
    start, stop = map(int, path.stem.split("_")[-2:])
    y = np.zeros(len(x), dtype=int)
    y[start:stop] = 1
    return x[:, None], y


def load_machine(folder, name):
    """Return train and test (t, c), y (t,), 1 an anomaly, and causes (t, c) of one."""
    folder = folder / "series" / "smd"
    with np.load(folder / f"{SMD[name]}.npz") as file:
        train, test, y = (file[key] for key in ("train", "test", "label"))
    causes = np.zeros(test.shape, dtype=bool)
    text = (folder / f"{SMD[name]}_interpretation_label.txt").read_text()
    for line in text.split():
        first, last, *channels = map(
            int, line.replace("-", ",").replace(":", ",").split(",")
        )
        causes[first:last, np.array(channels) - 1] = True
    return train.astype(float), test.astype(float), y.astype(int), causes


def _nab(folder, name):
    with (folder / name).open() as file:
        rows = list(csv.DictReader(file))[1:]  # the benchmark drops the first
    windows = json.loads((folder / "combined_windows.json").read_text())[name]
    times = np.array([row["timestamp"] for row in rows])
    # timestamps of one format compare as strings do
    y = np.zeros(len(rows), dtype=int)
    for start, stop in windows:
        y[(times > start[:19]) & (times <= stop[:19])] = 1
    return np.array([[float(row["value"])] for row in rows]), y


def peer_figures(folder):
    """Return {(series, method): row} of the peers' figures, values as floats."""
    with (folder / "series" / "peers.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for row in rows:
        for name in ("window", "n", "vus_pr", "average_precision"):
            row[name] = float(row[name])
    return {(row["series"], row["method"]): row for row in rows}
