"""Words of what is said about files."""

import warnings


def one_line(value, limit=200):
    """Return anything as text in one line."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[:limit] + "..."


def listed(names, limit=8):
    """Return names in quotes, the first few of many."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def note(text):
    """Warn of what was decided about a file; the command line prints it."""
    warnings.warn(text, UserWarning, stacklevel=2)


def shown(path):
    r"""Return a path as text that every terminal and every file can hold.

    A name that is no UTF-8 has its odd bytes written as `\xe9`.
    """
    return (
        str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    )
