"""Pictures: seconds and memory of `fit` as training pictures grow in number.

    OMP_NUM_THREADS=1 python benchmarks/bench_growth.py

Every detector of pictures with its defaults, on 100, 200 and 400 drawn textures of
64 x 64 pixels, with the bank of filters where it has a backbone; those that train have
one epoch in each phase, and 16 filters or units where theirs are hundreds. Every fit is
a process of its own, ended after ``--limit`` seconds: `fit_s` are its seconds of
processor time, `peak_mb` is the memory that `fit` takes at most beside what is there
before. `growth` is the time of 400 over that of 100 pictures: 4 is linear, core-sets
grow with the square.
"""

import argparse
import json
import pathlib
import subprocess
from numbers import Integral

from _measure import Table, fresh_process
from _picture_rows import PAIRS

import skad

NUMBERS = (100, 200, 400)
# What makes networks small, where their defaults are larger.
SMALL = {"hidden_size": 16, "channels": 16, "width": 16, "latent_size": 16}
CODE = """
import json, resource, sys, time, warnings
import numpy as np
import skad
from scipy.ndimage import gaussian_filter
name, n, params = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
limit = int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
warnings.simplefilter("ignore")
noise = np.random.default_rng(0).normal(size=(n, 64, 64)).astype(np.float32)
X = np.stack([0.5 + 0.3 * gaussian_filter(each, 1.5) for each in noise])
detector = getattr(skad, name)(**params)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
detector.fit(X)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([time.process_time() - start, (after - before) / 1024]))
"""


def arguments(cls):
    """Return the constructor arguments of a detector here."""
    detector = cls()
    known = detector.get_params(deep=False)
    params = {name: 1 for name in getattr(cls, "_epoch_parameters", ()) if known[name]}
    for name, most in SMALL.items():
        if isinstance(known.get(name), Integral) and known[name] > most:
            params[name] = most
    if "random_state" in known:
        params["random_state"] = 0
    return params


def main():
    """Measure what the command line names, or all that needs no labels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", help="detectors")
    parser.add_argument("--limit", type=int, default=120, help="seconds of a fit")
    parser.add_argument("--out", default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args()
    table = Table(["detector", "settings", "n", "fit_s", "peak_mb", "growth"])
    for name, cls in skad.all_detectors():
        if cls._data != "pictures" or (options.only and name not in options.only):
            continue
        if cls().__sklearn_tags__().target_tags.required or name in PAIRS:
            continue
        params = arguments(cls)
        settings = ", ".join(f"{k}={v}" for k, v in params.items())
        taken = {}
        for n in NUMBERS:
            try:
                line = fresh_process(CODE, name, n, json.dumps(params), options.limit)
            except subprocess.CalledProcessError:
                table.add(name, settings, n, f"> {options.limit}", "", "")
                break
            taken[n], peak = json.loads(line)
            whole = len(taken) == len(NUMBERS)
            growth = taken[NUMBERS[-1]] / taken[NUMBERS[0]] if whole else ""
            table.add(name, settings, n, taken[n], peak, growth)
    table.write(pathlib.Path(options.out) / "images_growth.tsv")


if __name__ == "__main__":
    main()
