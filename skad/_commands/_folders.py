"""Folders and files of pictures as the command line takes them."""

from os.path import commonpath
from pathlib import Path

from sklearn.utils import Bunch

from skad.datasets._words import shown
from skad.image import PictureFiles
from skad.image._folder import load_folder, load_test_folder

_SUFFIXES = (".csv", ".tsv", ".parquet", ".npy", ".npz")  # of tables


def are_pictures(paths):
    """Tell whether paths are a folder or files of pictures, and not one of a table."""
    if paths is None:
        return False
    return len(paths) > 1 or (
        Path(paths[0]).is_dir() and Path(paths[0]).suffix.lower() not in _SUFFIXES
    )


def load_pictures(train, test, *, size=None, on_error="raise"):
    """Find the pictures to learn from and those to look at.

    Parameters
    ----------
    train, test : list of str
        A folder, or files. Without `test` the folder `train` has its own.
    size : tuple of int or None, default=None
        Height and width to bring all pictures to.
    on_error : {"raise", "skip"}, default="raise"
        What to do with pictures that cannot be read.

    Returns
    -------
    data : Bunch
        `X_train`, `X_test`, `y_test`, `defects_test`, `masks_test` and `skipped`, as
        `load_folder` has them, `files` (the names of the test pictures below their
        folder), `folders` (where pictures are looked for) and `title`.
    """
    for paths in (train, test):
        if paths and len(paths) == 1 and not Path(paths[0]).exists():
            raise FileNotFoundError(f"{shown(paths[0])}: no such file or folder")
    options = {"size": size, "on_error": on_error}
    own = test is None or _same(train, test)
    # a share of good/ is held out only where nothing else is there to look at
    seen = (
        _files(train, "X_train", options)
        if not _is_folder(train)
        else load_folder(train[0], test_share=0.2 if own else 0, **options)
    )
    if own:
        if seen.get("X_test") is None:
            raise ValueError(
                f"{train[0]}: has good pictures only and none to look at; pass --test"
            )
        data, root = seen, Path(train[0])
        title = shown(root.resolve().name)
        folders = set()
    else:
        # as the training pictures are, so that a grey file may be among colour ones
        options["mode"] = "gray" if seen.X_train.shape[3] == 1 else "rgb"
        if _is_folder(test):
            data, root = _test_folder(Path(test[0]), options), Path(test[0])
        else:
            data, root = _files(test, "X_test", options), None
        title = shown(Path(test[0]).resolve().name)
        folders = {Path(test[0]).resolve()} if _is_folder(test) else set()
        if len(test) > 1:
            title = f"{len(test)} pictures"
        if data.X_test.shape[1:] != seen.X_train.shape[1:]:
            new, old = data.X_test.shape[1:3], seen.X_train.shape[1:3]
            raise ValueError(
                f"{data.X_test.paths[0]}: is {new[0]} x {new[1]} pixels (height x "
                f"width), the training pictures are {old[0]} x {old[1]}; pass "
                "size=(height, width) to resize all"
            )
    return Bunch(
        X_train=seen.X_train,
        X_test=data.X_test,
        y_test=data.get("y_test"),
        defects_test=data.get("defects_test"),
        masks_test=data.get("masks_test"),
        skipped=seen.skipped + ([] if own else data.skipped),
        files=_names(data.X_test.paths, root),
        folders=folders
        | {
            path.resolve().parent
            for X in (seen.X_train, data.X_test)
            for path in X.paths
        },
        title=title,
    )


def writable_folder(folder):
    """Make a folder, and raise OSError in one line where nothing can be written."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".skad-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"{shown(folder)}: cannot write there: {error.strerror}"
        ) from error


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
