"""Puts the table of results into README.md, from the files that benchmarks write."""

BEGIN, END = "<!-- peers: make bench -->\n", "<!-- end of peers -->\n"
HEAD = (
    "skad",
    "peer",
    "ROC AUC, ours and theirs",
    "time, theirs over ours",
    "peak memory in MB, ours and theirs",
    "estimator checks passed, ours and theirs",
    "date",
)


def read(path):
    """Return the date of a file of results, and its rows as dicts."""
    lines = path.read_text().splitlines()
    date = next(line for line in lines if line.startswith("# date")).split()[-1]
    names, *rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return date, [dict(zip(names, row, strict=False)) for row in rows]


def pair(ours, theirs, digits=3):
    """Return ours and theirs, rounded."""
    ours, theirs = f"{float(ours):.{digits}f}", f"{float(theirs):.{digits}f}"
    return f"{ours} / {theirs}"


def times(ratio):
    """Return how many times faster we are, in two digits."""
    ratio = float(ratio)
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def tables(results):
    date, rows = read(results / "peers_tables.tsv")
    for row in rows:
        peer = row["peer"].split(":")[1].split("(")[0]
        yield (
            f"`{row['ours'].split('(')[0]}`",
            f"PyOD {peer}",
            pair(row["auc"], row["peer_auc"]),
            times(row["ratio"]),
            pair(row["mb"], row["peer_mb"], 0),
            f"{row['checks']}, {row['peer_checks']}",
            date,
        )


def networks(results):
    """Yield networks trained as long as the peer's, whatever the defaults are."""
    date, rows = read(results / "networks_speed.tsv")
    for row in rows:
        work, _, batch = row["work"].partition(" fit, ")
        if not batch or work not in ("AutoEncoder", "VAE", "DeepSVDD"):
            continue
        yield (
            f"`{work}`, fit with the same layers, epochs and {batch}",
            f"PyOD {work}",
            "",
            times(row["ratio"]),
            "",
            "",
            date,
        )


def series(results):
    date, rows = read(results / "series_profile.tsv")
    for row in rows:
        if not row["ratio"]:
            continue
        method = "LeftMatrixProfile" if "left" in row["what"] else "MatrixProfile"
        gap = row["largest_difference"]
        yield (
            f"`{method}`, {row['what'].split(', ')[1]}, n = {int(row['n']):,}, "
            f"m = {row['m']}",
            "STUMPY",
            f"same to {float(gap):.0e}" if gap else "same",
            times(1 / float(row["ratio"])),
            "",
            "all, no estimator",
            date,
        )


def classifiers(results):
    date, rows = read(results / "ood_speed.tsv")
    _, quality = read(results / "ood_digits.tsv")
    areas = {}
    for row in quality:
        if row["network"] == "mlp":
            areas.setdefault(row["method"].split(",")[0], row)
    for row in rows:
        if row["dtype"] != "float32":
            continue
        area = areas[row["method"]]
        yield (
            f"`{row['method']}`, scoring",
            "pytorch-ood",
            pair(area["mean"], area["peer_mean"]),
            times(row["score_ratio"]),
            "",
            "all, no estimator",
            date,
        )


def pictures(results):
    date, rows = read(results / "images_speed.tsv")
    for row in rows:
        if row["note"].startswith("ratio:"):  # against the backbone
            continue
        same = "same" if "same" in row["note"] or " and " in row["note"] else ""
        yield (
            row["work"],
            "anomalib",
            same,
            times(row["ratio"]),
            "",
            "all, no estimator",
            date,
        )


def write_table(readme, results):
    """Replace what stands between the two marks in the README."""
    parts = tables, networks, series, classifiers, pictures
    rows = [row for part in parts for row in part(results)]
    lines = [HEAD, ("---",) * len(HEAD), *rows]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    before, rest = readme.read_text().split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")
