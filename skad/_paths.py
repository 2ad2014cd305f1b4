"""Paths as users give them."""

import os
from pathlib import Path


def as_path(path, name="path"):
    """Return a path, or raise ValueError where it is empty.

    An empty one would be the current folder, which nobody has named.
    """
    if isinstance(path, str | os.PathLike) and not os.fspath(path).strip():
        raise ValueError(f"{name}={path!r} is empty: '.' is the current folder.")
    return Path(path)
