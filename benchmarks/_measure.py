"""How the benchmarks measure and print: ratios in one run, medians of turns."""

import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "skad scikit-learn pyod deepod pytorch-ood stumpy skorch numpy scipy torch"
    " pynndescent".split()
)


def seconds(function, clock=time.perf_counter):
    """Return how long one call takes."""
    start = clock()
    function()
    return clock() - start


def in_turns(ours, peer, turns, clock=time.perf_counter):
    """Return the median seconds of two functions called A B A B."""
    times = [(seconds(ours, clock), seconds(peer, clock)) for _ in range(turns)]
    return tuple(statistics.median(column) for column in zip(*times, strict=True))


def median_seconds(function, turns):
    """Return the median seconds of a function."""
    return statistics.median(seconds(function) for _ in range(turns))


def fresh_process(code, *arguments):
    """Run Python code in a new interpreter and return the last line it prints."""
    root = str(pathlib.Path(__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    return done.stdout.strip().splitlines()[-1]


def command():
    """Return the line that this was run by."""
    return f"python {' '.join(sys.argv)}"


def machine():
    """Return lines that say what the figures were measured on."""
    model = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    return [
        f"date {time.strftime('%Y-%m-%d')}",
        f"command {command()}",
        f"machine {model}, {os.cpu_count()} cores, OMP_NUM_THREADS={threads}",
        f"python {platform.python_version()}, " + ", ".join(versions),
    ]


def kept_notes(path):
    """Return what the head of a file says that keeps rows when it is written anew.

    These are its notes, and the command it was made by where that is another one.
    """
    path, found = pathlib.Path(path), []
    for line in path.read_text().splitlines() if path.exists() else ():
        if not line.startswith("# "):
            break
        kind, _, words = line[2:].partition(" ")
        if kind == "command":
            if words != command():
                found.append(f"rows kept: {words}")
        elif kind not in ("date", "machine", "python"):
            found.append(line[2:])
    return list(dict.fromkeys(found))


def kept_rows(path):
    """Return the rows of a table that is there, as lists of their cells."""
    path = pathlib.Path(path)
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split("\t") for line in lines if line[:1] != "#"][1:]


class Table:
    """Rows printed as they come and written as tab-separated text at the end."""

    def __init__(self, columns):
        self.columns = columns
        self.rows = []
        self.notes = []
        print("\t".join(columns), flush=True)

    def add(self, *values):
        """Print one row."""
        row = [
            f"{value:.4g}" if isinstance(value, float) else str(value)
            for value in values
        ]
        self.rows.append(row)
        print("\t".join(row), flush=True)

    def write(self, path, *notes):
        """Write the rows under the machine's description and notes."""
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"# {line}" for line in [*machine(), *notes]]
        lines += ["\t".join(row) for row in [self.columns, *self.rows]]
        path.write_text("\n".join(lines) + "\n")
