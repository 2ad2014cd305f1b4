"""How files are read: the options that say so, which travel with a model."""

from dataclasses import asdict, dataclass, fields

from skad._commands._checks import refuse

# What an option is called whose name is not that of the field.
_OPTIONS = {
    "header": "--header or --no-header",
    "day_first": "--day-first or --month-first",
}
TEXT = ("sep", "decimal", "encoding", "header")
TABLE = ("label_column", "anomaly_label", "drop", "id_column", *TEXT)
TIME = (
    "time_column",
    "group_column",
    "day_first",
    "time_format",
    "gaps",
    "resample",
    "resample_by",
)
PICTURES = ("image_size", "on_error")
_SEVERAL = ("drop", "time_column")  # options that may be repeated


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are read; the fields are the options of the command line.

    Parameters
    ----------
    series : bool, default=False
        Whether rows are time steps in order.
    label_column, anomaly_label : str or None, default=None
        Column of the labels, and which of them means an anomaly.
    drop : tuple of str, default=()
        Columns to leave out.
    id_column, group_column : str or None, default=None
        Columns that are no features.
    time_column : tuple of str, default=()
        The column of times, or those of the date and of the time of day.
    sep, decimal, encoding, header : default=None
        How text files are read; see `skad.datasets.read_table`.
    day_first, time_format : default=None
        How times are read; see `skad._times.read_times`.
    gaps : {"split", "ignore"} or None, default=None
        Whether gaps in the times part series; None is "split".
    resample : str or None, default=None
        The regular step that series are brought to.
    resample_by : {"mean", "interpolate"} or None, default=None
        How; None is "mean".
    image_shape, image_size : tuple of int or None, default=None
        Height and width of pictures in rows, and what pictures in files are brought to.
    on_error : {"raise", "skip"} or None, default=None
        What to do with pictures that cannot be read; None is "raise".
    """

    series: bool = False
    label_column: str | None = None
    anomaly_label: str | None = None
    drop: tuple = ()
    id_column: str | None = None
    sep: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    header: bool | None = None
    image_shape: tuple | None = None
    time_column: tuple = ()
    group_column: str | None = None
    day_first: bool | None = None
    time_format: str | None = None
    gaps: str | None = None
    resample: str | None = None
    resample_by: str | None = None
    image_size: tuple | None = None
    on_error: str | None = None

    @classmethod
    def of(cls, options):
        """Return what the options of a command line say, as far as it has them."""
        found = {f.name: getattr(options, f.name, f.default) for f in fields(cls)}
        for name in _SEVERAL:
            found[name] = tuple(dict.fromkeys(found[name] or ()))
        return cls(**found)

    @classmethod
    def of_json(cls, found):
        """Return what `to_json` made; ValueError where it is anything else."""
        known = {f.name: f for f in fields(cls)}
        if not isinstance(found, dict) or set(found) - set(known):
            raise ValueError("options that are none")
        made = {}
        for name, value in found.items():
            if name == "time_column" and isinstance(value, str):
                value = [value]  # as files of 0.1 have it
            made[name] = tuple(value) if isinstance(value, list) else value
            if not _fits(name, made[name]):
                raise ValueError(f"an option {name} that is none")
        return cls(**made)

    def to_json(self):
        """Return what is not a default, as plain JSON."""
        defaults = asdict(type(self)())
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value != defaults[name]
        }

    def refuse(self, kind, *names):
        """Raise ValueError where one of the options is given, which is not for `kind`.

        Parameters
        ----------
        kind : str
            What it is not for.
        *names : str
            Fields.
        """
        for name in names:
            value = getattr(self, name)
            given = value is not None if name in _OPTIONS else value
            option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
            refuse(kind, {option: given})

    @property
    def aside(self):
        """The columns that are kept beside the features."""
        names = (*self.time_column, self.group_column, self.id_column)
        return [name for name in names if name is not None]

    @property
    def time_name(self):
        """What the times are called, None where there are none."""
        return " ".join(self.time_column) or None

    @property
    def text(self):
        """What `read_tables` takes of text files."""
        return {name: getattr(self, name) for name in TEXT}

    @property
    def times(self):
        """What `read_times` takes."""
        return {"day_first": self.day_first, "time_format": self.time_format}


def _fits(name, value):
    if name in ("series", "header", "day_first"):
        return isinstance(value, bool) or (value is None and name != "series")
    if name in _SEVERAL:
        return isinstance(value, tuple) and all(isinstance(v, str) for v in value)
    if name in ("image_shape", "image_size"):
        return value is None or (
            isinstance(value, tuple)
            and len(value) == 2
            and all(type(v) is int and v > 0 for v in value)
        )
    return value is None or isinstance(value, str)
