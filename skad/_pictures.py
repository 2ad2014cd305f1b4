"""Pictures in files, as a sequence that reads them when they are asked for.

Pillow is imported when the first file is opened.
"""

import copy
import operator
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from skad._needed import need
from skad._paths import as_path

# What is tried on a file, whatever it is called. Formats that run a program or hold
# drawings are left out.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

# What counts as a picture when a folder is listed.
SUFFIXES = (
    *(".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm"),
    *(".ppm", ".tif", ".tiff", ".webp"),
)

_GRAY = ("1", "L", "LA", "La")
_DEEP = ("I", "F")  # first letters of modes with more than eight bits, all of them grey


class PictureFiles:
    """Pictures in files, read when they are sliced.

    It looks like an array of shape (n, h, w, c), but holds only where the files are:
    `pictures[3]` reads one file, `pictures[8:16]` reads eight. Headers are read at
    once, so that files that are no pictures, and pictures of another size, are known
    before any work starts. ``np.asarray(pictures)`` reads all of them.

    Parameters
    ----------
    paths : sequence of str or Path
        The files.
    size : tuple of int or None, default=None
        Height and width to bring every picture to (bilinear, antialiased). Without it
        all pictures must have one size.
    mode : {"rgb", "gray"} or None, default=None
        Three channels or one. None keeps colour where any of the files has some.
    on_error : {"raise", "skip"}, default="raise"
        What to do with files that are missing, cannot be read, or have another size
        than most: one error that names them, or leave them out and list them in
        `skipped`. To skip, each file is decoded once when the sequence is made, since
        only then it is known whether it breaks off; else that is an error when the file
        is read.

    Attributes
    ----------
    shape : tuple of int
        Number of pictures, height, width and channels.
    dtype : dtype
        uint8; float32 in 0..1 where any of the files has more than eight bits a value.
    paths : list of Path
        The files that are read.
    sizes : ndarray of shape (n, 2)
        Height and width of each picture before `size`.
    skipped : list of (Path, str)
        Files that were left out, with the reason.

    Notes
    -----
    A picture is turned upright as its EXIF orientation says. Transparency is dropped
    and the colours under it are kept. CMYK becomes RGB without a colour profile. Of
    animations and of files with several pages the first picture is read. Sixteen bits
    become v / 65535, and pictures of floats must lie in 0..1; sixteen-bit colour is
    read with eight bits (Pillow's limit). Files open for reading are closed before a
    call returns.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from PIL import Image
    >>> from skad.image import PictureFiles
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = [Path(folder, f"{i}.png") for i in range(3)]
    ...     for i, path in enumerate(paths):
    ...         Image.fromarray(np.full((4, 6), 10 * i, np.uint8)).save(path)
    ...     pictures = PictureFiles(paths)
    ...     pictures.shape, pictures[1:].mean(axis=(1, 2, 3))
    ((3, 4, 6, 1), array([10., 20.]))
    """

    ndim = 4

    def __init__(self, paths, *, size=None, mode=None, on_error="raise"):
        if isinstance(paths, str | Path):
            raise TypeError(
                f"paths is the one path {str(paths)!r}; pass a list of paths "
                "(skad.image.load_folder reads a folder)."
            )
        if mode not in ("rgb", "gray", None):
            raise ValueError(f"mode={mode!r}: must be 'rgb', 'gray' or None.")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error={on_error!r}: must be 'raise' or 'skip'.")
        size = _checked_size(size)
        paths = [as_path(path, "paths") for path in paths]
        if not paths:
            raise ValueError("paths is empty: no picture to read.")
        headers, faults = {}, {}
        for i, path in enumerate(paths):
            try:
                headers[i] = _header(path)
                if on_error == "skip":
                    with _opened(path) as image:
                        image.load()
            except (OSError, ValueError) as error:
                faults[i] = error
        if size is None and headers:
            faults.update(_odd_sizes(paths, headers))
        if faults and on_error == "raise":
            _raise(faults)
        kept = [i for i in range(len(paths)) if i not in faults]
        self.skipped = [(paths[i], str(faults[i])) for i in sorted(faults)]
        if not kept:
            raise ValueError(f"none of {len(paths)} files can be read: {faults[0]}")
        self.paths = [paths[i] for i in kept]
        self.sizes = np.array([headers[i][:2] for i in kept])
        modes = {headers[i][2] for i in kept}
        gray = all(name in _GRAY or name[0] in _DEEP for name in modes)
        if mode is None:
            mode = "gray" if gray else "rgb"
        deep = any(name[0] in _DEEP for name in modes)
        self.dtype = np.dtype(np.float32 if deep else np.uint8)
        self._picture_shape = (
            *(size or self.sizes[0].tolist()),
            1 + 2 * (mode == "rgb"),
        )

    @property
    def shape(self):
        return (len(self.paths), *self._picture_shape)

    def __len__(self):
        return len(self.paths)

    def __repr__(self):
        return f"<{len(self)} picture files of shape {self._picture_shape}>"

    def __getitem__(self, rows):
        """Read one picture (h, w, c); of a slice, indices or a mask (b, h, w, c)."""
        rows = self._indices(rows)
        if isinstance(rows, int):
            return _read(self.paths[rows], self._picture_shape, self.dtype)
        pictures = np.empty((len(rows), *self._picture_shape), dtype=self.dtype)
        for picture, i in zip(pictures, rows, strict=True):
            picture[:] = _read(self.paths[i], self._picture_shape, self.dtype)
        return pictures

    def __array__(self, dtype=None, copy=None):
        if copy is False:
            raise ValueError("pictures in files cannot become an array without a copy.")
        pictures = self[:]
        return pictures if dtype is None else pictures.astype(dtype, copy=False)

    def take(self, rows):
        """Return some of the pictures, unread, as another sequence.

        Parameters
        ----------
        rows : slice, indices or boolean mask
            Which pictures, in which order.

        Returns
        -------
        pictures : PictureFiles
            Of the same size, mode and dtype.
        """
        rows = np.atleast_1d(self._indices(rows))
        taken = copy.copy(self)
        taken.paths = [self.paths[i] for i in rows]
        taken.sizes = self.sizes[rows]
        return taken

    def joined(self, others):
        """Return these pictures and others of the same size and dtype behind them.

        Parameters
        ----------
        others : PictureFiles
            More files.

        Returns
        -------
        pictures : PictureFiles
            All of them, unread.
        """
        both = copy.copy(self)
        both.paths = self.paths + others.paths
        both.sizes = np.concatenate([self.sizes, others.sizes])
        both.skipped = self.skipped + others.skipped
        return both

    def _indices(self, rows):
        """Return an int, or integers of shape (b,), all from 0 to n - 1."""
        if isinstance(rows, tuple) and rows[1:] == (Ellipsis,):
            rows = rows[0]  # as scikit-learn writes the indices of a split
        found = np.arange(len(self))[rows]
        return found if found.ndim else operator.index(found)


def list_pictures(folder):
    """Return the picture files right in `folder`, by name, without hidden ones."""
    return sorted(
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )


def read_mask(path):
    """Return which pixels of a mask are not 0, of shape (h, w).

    Of a mask that was saved as JPEG, which blurs edges, those that are over the half.
    """
    with _opened(path) as image:
        least = 127 if image.format == "JPEG" else 0
        image = _upright(image)
        if image.mode in ("LA", "RGBA"):  # what is transparent may still be marked
            image = image.convert(image.mode[:-1])
        values = np.asarray(image)  # of a palette: the numbers of the colours
    return (values > least).reshape(*values.shape[:2], -1).any(axis=2)


def picture_size(path):
    """Return height and width of the picture in a file, upright, from its header."""
    return _header(Path(path))[:2]


@contextmanager
def _opened(path):
    """Open a picture; whatever is wrong with it is an error that names the file."""
    Image = need("PIL.Image", "reading pictures from files")
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if not path.is_file():
        raise ValueError(f"{path}: is a folder; files are needed")
    try:
        with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
            yield image
    # broken files raise whatever the decoder stumbles over, TypeError and KeyError too
    except Exception as error:
        if path.stat().st_size == 0:
            reason = "the file is empty"
        elif isinstance(error, Image.UnidentifiedImageError):
            reason = f"is none of {', '.join(FORMATS)}"
        else:
            reason = str(error) or type(error).__name__
        raise ValueError(f"{path}: cannot be read as a picture: {reason}") from error


def _header(path):
    """Return height and width of the upright picture, and Pillow's name of its mode."""
    with _opened(path) as image:
        width, height = image.size
        turn = _orientation(image)
        if image.format == "TIFF":  # of these, releases of Pillow turn the size or not
            width, height = image.tag_v2[256], image.tag_v2[257]
        if turn >= 5:
            width, height = height, width
        return height, width, image.mode


def _orientation(image):
    """Return the EXIF orientation, 1 to 8; 1, upright, where it cannot be told."""
    from PIL import Image

    try:
        # not PNG's own, which decodes all pixels to look behind them
        turn = Image.Image.getexif(image).get(0x0112, 1)
    except Exception:  # a damaged note about a picture does not damage the picture
        return 1
    return turn if turn in range(1, 9) else 1


def _upright(image):
    """Return a decoded picture, turned as its EXIF orientation says."""
    from PIL import Image

    turns = Image.Transpose
    steps = [
        *(None, turns.FLIP_LEFT_RIGHT, turns.ROTATE_180, turns.FLIP_TOP_BOTTOM),
        *(turns.TRANSPOSE, turns.ROTATE_270, turns.TRANSVERSE, turns.ROTATE_90),
    ]
    # Pillow turns a TIFF itself, when it decodes it
    step = None if image.format == "TIFF" else steps[_orientation(image) - 1]
    image.load()
    return image if step is None else image.transpose(step)


def _read(path, shape, dtype):
    """Return the picture in a file, of the given shape (h, w, c) and dtype."""
    from PIL import Image

    with _opened(path) as image:
        image = _in_plain_mode(_upright(image), gray=shape[2] == 1)
        if image.size != (shape[1], shape[0]):
            image = image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
    if dtype == np.float32 and pixels.dtype == np.uint8:
        pixels = pixels.astype(np.float32) / 255
    return np.broadcast_to(pixels.reshape(*shape[:2], -1), shape)


def _in_plain_mode(image, gray):
    """Return a decoded picture in mode L, RGB, or F with values in 0..1."""
    from PIL import Image

    if image.mode[0] in _DEEP:
        values = np.asarray(image).astype(np.float32)
        if image.mode[0] == "I":
            values /= 65535
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(
                f"values from {values.min():g} to {values.max():g}, where 0 to 1 are "
                "needed (whole numbers are divided by 65535)"
            )
        return Image.fromarray(values)
    if image.mode in ("P", "PA"):  # by RGBA: half-transparent palettes warn otherwise
        image = image.convert("RGBA")
    elif image.mode in ("La", "RGBa"):  # colours multiplied by their opacity
        image = image.convert(image.mode.upper())
    if gray and image.mode in _GRAY:
        return image.convert("L")
    image = image.convert("RGB")
    return image.convert("L") if gray else image


def _odd_sizes(paths, headers):
    """Return {index: error} of the pictures that have another size than most."""
    counts = Counter(header[:2] for header in headers.values())
    (usual, n_usual), *others = counts.most_common()
    if not others:
        return {}
    return {
        i: ValueError(
            f"{paths[i]}: is {header[0]} x {header[1]} pixels (height x width), while "
            f"{n_usual} of {len(headers)} pictures are {usual[0]} x {usual[1]}; pass "
            "size=(height, width) to resize all"
        )
        for i, header in headers.items()
        if header[:2] != usual
    }


def _raise(faults):
    """Raise the first of the errors, with how many more there are."""
    first = faults[min(faults)]
    more = f" (and {len(faults) - 1} more files are wrong)" if len(faults) > 1 else ""
    message = f"{first}{more}. on_error='skip' leaves such files out."
    raise type(first)(message) from first


def _checked_size(size):
    if size is None:
        return None
    try:
        height, width = (operator.index(length) for length in size)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ValueError(f"size={size!r}: must be (height, width), at least 1 each.")
    return height, width
