"""Which options and detectors are for the kind of data at hand."""

from skad._commands._build import kind_of_data


def refuse(kind, *options):
    """Raise ValueError for options that are of no use on a kind of data."""
    for name, value in (item for part in options for item in part.items()):
        if value not in (None, False, (), []):
            raise ValueError(f"{name} is not for {kind}")


def check_looks_at_pictures(model):
    """Raise ValueError unless a detector looks at pictures."""
    name, kind = type(model).__name__, kind_of_data(type(model))
    if kind not in ("pictures", "tables"):
        raise ValueError(f"{name} looks at {kind}, not at pictures")
    if kind == "tables" and "image_shape" not in model.get_params(deep=False):
        raise ValueError(
            f"{name} looks at rows of a table, not at pictures; PatchDetector carries "
            f"it to them: --detector PatchDetector --set detector={name}"
        )


def check_looks_at_series(model):
    """Raise ValueError unless a detector looks at series."""
    name, kind = type(model).__name__, kind_of_data(type(model))
    if kind == "tables":
        raise ValueError(
            f"{name} looks at rows of a table, not at series; WindowDetector carries "
            f"it to them: --detector WindowDetector --set detector={name}"
        )
    if kind != "series":
        raise ValueError(f"{name} looks at {kind}, not at series")


def check_looks_at_rows(model):
    """Raise ValueError unless a detector looks at rows of a table."""
    name, kind = type(model).__name__, kind_of_data(type(model))
    if kind == "series":
        raise ValueError(
            f"{name} looks at series: pass --series where rows are time steps in order"
        )
    if kind == "a classifier":
        raise ValueError(
            f"{name} looks at a classifier and its inputs, which no file holds; use it "
            "from Python"
        )
    if kind not in ("tables", "pictures"):
        raise ValueError(f"{name} looks at {kind}, not at rows of a table")
