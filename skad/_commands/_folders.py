"""Folders and files of pictures as the command line takes them."""

from os.path import commonpath
from pathlib import Path

from sklearn.utils import Bunch

from skad._pictures import SUFFIXES
from skad.datasets._words import shown
from skad.image import PictureFiles
from skad.image._folder import load_folder, load_test_folder

TABLES = (".csv", ".tsv", ".parquet", ".npy", ".npz")  # how their names end


def are_pictures(paths):
    """Tell whether paths are a folder or files of pictures, and not one of a table."""
    if paths is None:
        return False
    suffix = Path(paths[0]).suffix.lower()
    if len(paths) > 1 or suffix in SUFFIXES:
        return True
    return Path(paths[0]).is_dir() and suffix not in TABLES


def load_pictures(train, test, *, size=None, on_error="raise", only_learn=False):
    """Find the pictures to learn from and those to look at.

    Parameters
    ----------
    train, test : list of str
        A folder, or files. Without `test` the folder `train` has its own, or pictures
        that are searched for their own anomalies.
    size : tuple of int or None, default=None
        Height and width to bring all pictures to.
    on_error : {"raise", "skip"}, default="raise"
        What to do with pictures that cannot be read.
    only_learn : bool, default=False
        Whether nothing is looked at: then all good pictures are learned from.

    Returns
    -------
    data : Bunch
        `X_train`, `X_test`, `y_test`, `defects_test`, `masks_test` and `skipped`, as
        `load_folder` has them, `files` (the names of the test pictures below their
        folder), `folders` (where pictures are looked for), `title` and `own` (whether
        the pictures to look at are those to learn from, as no others are there).
    """
    for paths in (train, test):
        _check_there(paths)
    options = {"size": size, "on_error": on_error}
    own = test is None or _same(train, test)
    # a share of good/ is held out only where nothing else is there to look at
    seen = (
        _files(train, "X_train", options)
        if not _is_folder(train)
        else load_folder(
            train[0], test_share=0.2 if own and not only_learn else 0, **options
        )
    )
    if only_learn:
        title = shown(Path(train[0]).resolve().name)
        folders = {path.resolve().parent for path in seen.X_train.paths}
        return Bunch(
            X_train=seen.X_train, skipped=seen.skipped, title=title, folders=folders
        )
    if own:
        if alone := seen.get("X_test") is None:
            seen.X_test = seen.X_train
        root = Path(train[0]) if _is_folder(train) else None
        new = _named(seen, root, [] if root is not None else train)
    else:
        remedy = "; pass size=(height, width) to resize all"
        new = _new(test, seen.X_train.shape[1:], options, remedy)
    return Bunch(
        X_train=seen.X_train,
        own=own and alone,
        skipped=seen.skipped + ([] if own else new.pop("skipped")),
        folders=new.pop("folders")
        | {path.resolve().parent for path in seen.X_train.paths},
        **{name: value for name, value in new.items() if name != "skipped"},
    )


def load_new(paths, image_shape, reading):
    """Find pictures to look at for a model that has learned from others.

    Parameters
    ----------
    paths : list of str
        A folder, or files.
    image_shape : tuple of int
        Height, width and channels of the pictures that the model has learned from.
    reading : Reading
        Its `image_size` and `on_error`.

    Returns
    -------
    data : Bunch
        As `load_pictures` has it, without what to learn from.
    """
    _check_there(paths)
    options = {"size": reading.image_size, "on_error": reading.on_error or "raise"}
    remedy = "; with `skad fit --image-size HEIGHT,WIDTH` it takes all sizes"
    return _new(paths, image_shape, options, remedy)


def _new(paths, image_shape, options, remedy):
    """Return pictures to look at, read as those of a shape (h, w, c) were."""
    # so that a grey file may be among colour ones
    options = options | {"mode": "gray" if image_shape[2] == 1 else "rgb"}
    if _is_folder(paths):
        data, root = _test_folder(Path(paths[0]), options), Path(paths[0])
    else:
        data, root = _files(paths, "X_test", options), None
    if data.X_test.shape[1:] != tuple(image_shape):
        (height, width), old = data.X_test.shape[1:3], image_shape[:2]
        raise ValueError(
            f"{data.X_test.paths[0]}: is {height} x {width} pixels (height x "
            f"width), the training pictures are {old[0]} x {old[1]}{remedy}"
        )
    return _named(data, root, paths)


def _named(data, root, paths):
    """Return pictures to look at with their names, their title and their folders."""
    title = f"{len(paths)} pictures" if len(paths) > 1 else None
    if title is None:
        title = shown(Path(paths[0] if paths else root).resolve().name)
    folders = {path.resolve().parent for path in data.X_test.paths}
    if root is not None and paths:
        folders.add(root.resolve())
    return Bunch(
        X_test=data.X_test,
        y_test=data.get("y_test"),
        defects_test=data.get("defects_test"),
        masks_test=data.get("masks_test"),
        skipped=data.skipped,
        files=_names(data.X_test.paths, root),
        folders=folders,
        title=title,
    )


def _check_there(paths):
    if paths and len(paths) == 1 and not Path(paths[0]).exists():
        raise FileNotFoundError(f"{shown(paths[0])}: no such file or folder")


def writable_folder(folder):
    """Make a folder, and raise OSError in one line where nothing can be written."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".skad-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror
        if isinstance(error, FileExistsError):
            reason = "it is a file, and results go into a folder"
        raise OSError(f"{shown(folder)}: cannot write there: {reason}") from error


def _is_folder(paths):
    return len(paths) == 1 and Path(paths[0]).is_dir()


def _same(train, test):
    return [Path(path).resolve() for path in train] == [
        Path(path).resolve() for path in test
    ]


def _files(paths, name, options):
    pictures = PictureFiles(paths, **options)
    return Bunch(**{name: pictures}, skipped=pictures.skipped)


def _test_folder(path, options):
    names = {folder.name.lower() for folder in path.iterdir() if folder.is_dir()}
    if {"train", "test"} <= names:  # a whole set, of which the test part counts
        data = load_folder(path, **options)
        if data.X_test is not None:
            return data
    return load_test_folder(path, **options)


def _names(paths, root):
    """Return the paths below the folder that all of them are in."""
    if root is None:
        root = Path(commonpath([path.resolve().parent for path in paths]))
        paths = [path.resolve() for path in paths]
    names = [shown(path.relative_to(root).as_posix()) for path in paths]
    # a name that is no UTF-8 may be written as another one is
    return (
        names
        if len(set(names)) == len(names)
        else [f"{i}-{name}" for i, name in enumerate(names)]
    )
