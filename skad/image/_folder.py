"""Folders of pictures, in the layouts that people have them in."""

import numpy as np
from sklearn.utils import Bunch

from skad._paths import as_path
from skad._pictures import PictureFiles, list_pictures, picture_size, read_mask

__all__ = ["PictureFiles", "load_folder"]

_ACCEPTED = """accepted are
  train/good/, and where there are any: test/good/, test/<defect>/ and
    ground_truth/<defect>/<name>_mask.png;
  good/ and bad/, where bad/ may have one folder per defect, and ground_truth/ as above;
  good pictures right in the folder"""


def load_folder(path, *, size=None, mode=None, on_error="raise", test_share=0.2):
    """Find the pictures of a folder, with labels and masks, without reading them yet.

    Three layouts are known: that of MVTec AD (`train/good`, `test/good`,
    `test/<defect>`, `ground_truth/<defect>/<name>_mask.png`); `good` and `bad`, where
    `bad` may have one folder per defect; and good pictures right in the folder. Hidden
    files and files of other kinds are ignored.

    Parameters
    ----------
    path : str or Path
        The folder.
    size : tuple of int or None, default=None
        Height and width to bring every picture and mask to. Without it all pictures
        must have one size.
    mode : {"rgb", "gray"} or None, default=None
        Three channels or one. None keeps colour where any of the pictures has some.
    on_error : {"raise", "skip"}, default="raise"
        What to do with pictures that cannot be read, have another size than most, or
        are defective and lack a mask that others have: one error that names them, or
        leave them out and list them in `skipped`.
    test_share : float, default=0.2
        Share of the pictures in `good` that are kept for testing where the folder has
        `good` and `bad` only, spread evenly over their names. 0 to below 1.

    Returns
    -------
    data : Bunch
        `X_train` and `X_test` (`PictureFiles`), `y_test` (1 normal, -1 anomaly),
        `defects_test` (the name of each test picture's defect, "good" for normal ones),
        `masks_test` (a sequence of boolean masks (h, w), read when asked for; nothing
        is marked in good ones; None without any `ground_truth`), `skipped` (a list of
        file and reason), `image_shape`, `feature_names` (None) and `title`. Without
        test pictures all that ends in `_test` is None.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from PIL import Image
    >>> from skad.image import load_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("good/a.png", "good/b.png", "good/c.png", "bad/scratch/d.png"):
    ...         path = Path(folder, name)
    ...         path.parent.mkdir(parents=True, exist_ok=True)
    ...         Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path)
    ...     data = load_folder(folder, test_share=1 / 3)
    >>> data.X_train.shape, data.X_test.shape
    ((2, 4, 6, 3), (2, 4, 6, 3))
    >>> data.y_test, list(data.defects_test)
    (array([ 1, -1]), ['good', 'scratch'])
    """
    if not 0 <= test_share < 1:
        raise ValueError(f"test_share={test_share!r}: must be from 0 to below 1.")
    path = as_path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such folder")
    train, test = _layout(path, test_share)
    masks, faults = _find_masks(path, test)
    if faults and on_error == "raise":
        raise _lacking(faults)
    lacking = {file for file, _ in faults}
    test = [(file, defect) for file, defect in test if file not in lacking]
    files = train + [file for file, _ in test]
    pictures = PictureFiles(files, size=size, mode=mode, on_error=on_error)
    kept = set(pictures.paths)
    defects = np.array([defect for file, defect in test if file in kept], dtype=object)
    n_train = len(pictures) - len(defects)
    if n_train == 0:
        raise ValueError(f"{path}: none of the {len(train)} training files can be read")
    data = Bunch(
        X_train=pictures.take(slice(n_train)),
        X_test=None,
        y_test=None,
        defects_test=None,
        masks_test=None,
        skipped=faults + pictures.skipped,
        image_shape=pictures.shape[1:],
        feature_names=None,
        title=path.resolve().name,
    )
    if len(defects):
        data.X_test = pictures.take(slice(n_train, None))
        _label(data, defects, masks)
    return data


def load_test_folder(path, *, size=None, mode=None, on_error="raise"):
    """Find pictures to look at, with labels and masks where the folder tells them.

    Pictures right in the folder have no labels. Those in its folders have them where
    one is called `good`: every other name is that of a defect, and so are the names
    below `bad`. Masks are found in `ground_truth`, in the folder or beside it.

    Parameters
    ----------
    path : str or Path
        The folder.
    size, mode, on_error
        As in `load_folder`.

    Returns
    -------
    data : Bunch
        `X_test` (`PictureFiles`), `y_test`, `defects_test` and `masks_test` (None where
        they are not known), and `skipped`, as `load_folder` has them.
    """
    path = as_path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such folder")
    files, below = list_pictures(path), {}
    for name, folder in _folders(path).items():
        if name != "ground_truth":
            for inner in (folder, *_folders(folder).values()):
                kind = "good" if name == "good" else inner.name
                below.setdefault(kind, []).extend(list_pictures(inner))
    found = [(file, kind) for kind, own in below.items() for file in own]
    if files and found:
        raise ValueError(
            f"{path}: has pictures both right in it and in folders such as "
            f"{found[0][1]}/; move the ones or the others"
        )
    if not files and not found:
        raise ValueError(f"{path}: there is no picture in it")
    masks, faults = None, []
    if "good" in below:
        roots = [path, path.parent] if path.name.lower() == "test" else [path]
        for root in roots:
            if masks is None:
                masks, faults = _find_masks(root, found)
    if faults and on_error == "raise":
        raise _lacking(faults)
    lacking = {file for file, _ in faults}
    files = files or [file for file, _ in found if file not in lacking]
    pictures = PictureFiles(files, size=size, mode=mode, on_error=on_error)
    data = Bunch(
        X_test=pictures,
        y_test=None,
        defects_test=None,
        masks_test=None,
        skipped=faults + pictures.skipped,
    )
    if "good" in below:
        kinds = dict(found)
        _label(data, [kinds[file] for file in pictures.paths], masks)
    return data


def _lacking(faults):
    """Return the error that names the first picture without a mask."""
    more = f" (and {len(faults) - 1} more lack one)" if len(faults) > 1 else ""
    return ValueError(
        f"{faults[0][0]}: {faults[0][1]}{more}. on_error='skip' leaves such "
        "pictures out."
    )


def _label(data, defects, masks):
    """Add what is known of `X_test`: labels, defects and masks."""
    data.defects_test = np.array(defects, dtype=object)
    data.y_test = np.where(data.defects_test == "good", 1, -1)
    if masks is not None:
        data.masks_test = _MaskFiles(
            [masks.get(file, []) for file in data.X_test.paths],
            data.X_test.sizes,
            data.X_test.shape[1:3],
        )


class _MaskFiles:
    """Masks of pictures, boolean (h, w), read when they are sliced."""

    ndim = 3
    dtype = np.dtype(bool)

    def __init__(self, paths, sizes, size):
        """Take the masks' paths of each picture, its own size, and the size wanted."""
        for files, expected in zip(paths, sizes.tolist(), strict=True):
            for file in files:
                found = picture_size(file)
                if found != tuple(expected):
                    raise ValueError(
                        f"{file}: the mask is {found[0]} x {found[1]} pixels, its "
                        f"picture {expected[0]} x {expected[1]}"
                    )
        self.paths = paths
        self.shape = (len(paths), *size)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, rows):
        rows = np.arange(len(self))[rows]
        if rows.ndim == 0:
            return self._read(self.paths[rows])
        masks = np.empty((len(rows), *self.shape[1:]), dtype=bool)
        for mask, i in zip(masks, rows, strict=True):
            mask[:] = self._read(self.paths[i])
        return masks

    def __array__(self, dtype=None, copy=None):
        masks = self[:]
        return masks if dtype is None else masks.astype(dtype, copy=False)

    def _read(self, files):
        mask = np.zeros(self.shape[1:], dtype=bool)
        for file in files:
            mask |= _resized(read_mask(file), self.shape[1:])
        return mask


def _resized(mask, size):
    """Return a mask with the nearest pixel of another for each of its own."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[rows[:, None], columns]


def _layout(path, test_share):
    """Return training files, and (file, defect) of test pictures."""
    folders = _folders(path)
    if "train" in folders and "good" in _folders(folders["train"]):
        train = _all_pictures(_folders(folders["train"])["good"])
        test = []
        if "test" in folders:
            for name, folder in _folders(folders["test"]).items():
                defect = "good" if name == "good" else folder.name
                test += [(file, defect) for file in _all_pictures(folder)]
        return train, test
    if "good" in folders and "bad" in folders:
        good = _all_pictures(folders["good"])
        bad = [(file, "bad") for file in list_pictures(folders["bad"])]
        for folder in _folders(folders["bad"]).values():
            bad += [(file, folder.name) for file in _all_pictures(folder)]
        if not bad:
            raise ValueError(f"{folders['bad']}: there is no picture in it")
        # every 1 / test_share-th, from the middle of the first such stretch on
        steps = np.floor(np.arange(len(good) + 1) * test_share + 0.5)
        held_out = np.diff(steps) > 0
        train = [file for file, out in zip(good, held_out, strict=True) if not out]
        test = [(file, "good") for file in np.array(good)[held_out]]
        return train, test + bad
    train = list_pictures(path)
    if not train or any(list_pictures(folder) for folder in folders.values()):
        raise _unknown_layout(path)
    return train, []


def _unknown_layout(path):
    names = [f"{folder.name}/" for folder in _folders(path).values()]
    for name in ("train", "test"):
        inside = _folders(path).get(name)
        if inside is not None:
            names += [f"{inside.name}/{f.name}/" for f in _folders(inside).values()]
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    found = f"the folders {shown}" if names else "no folders"
    return ValueError(
        f"{path}: not a layout that is known. It has {found} and "
        f"{len(list_pictures(path))} pictures right in it; {_ACCEPTED}"
    )


def _folders(path):
    """Return {lower-case name: folder} of the folders in one, without hidden ones."""
    return {
        folder.name.lower(): folder
        for folder in sorted(path.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }


def _all_pictures(folder):
    """Return the pictures in a folder, or one error."""
    files = list_pictures(folder)
    if not files:
        raise ValueError(f"{folder}: there is no picture in it")
    return files


def _find_masks(path, test):
    """Return {file: masks} of the defective, or None, and (file, reason) that lack one.

    The mask of `<defect>/<name>.jpg` is `ground_truth/<defect>/<name>_mask.png`, or
    `<name>.png` there, or all masks in the folder `<name>`, as in MVTec LOCO.
    """
    folder = _folders(path).get("ground_truth")
    if folder is None:
        return None, []
    masks, faults = {}, []
    for defect in sorted({defect for _, defect in test} - {"good"}):
        inside = _folders(folder).get(defect.lower(), folder)
        by_name = {file.stem: [file] for file in list_pictures(inside)}
        for several in _folders(inside).values():
            by_name.setdefault(several.name, list_pictures(several))
        for file in (file for file, name in test if name == defect):
            found = by_name.get(f"{file.stem}_mask") or by_name.get(file.stem)
            if found:
                masks[file] = found
            else:
                faults.append(
                    (
                        file,
                        f"no mask {file.stem}_mask.png or {file.stem}.png in {inside}",
                    )
                )
    return masks, faults
