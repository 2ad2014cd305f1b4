"""Pictures from files and folders: every kind of file is read right or named."""

import contextlib
import gc
import os
import pickle
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from skad.image import PictureFiles, load_folder

Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def rgb():
    """A picture (5, 7, 3) without any symmetry."""
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def write(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


# ------------------------------------------------------------------------- the sequence


def test_it_looks_like_an_array(tmp_path, rgb):
    images = [np.roll(rgb, i, axis=1) for i in range(6)]
    paths = [write(tmp_path / f"{i}.png", image) for i, image in enumerate(images)]
    pictures, images = PictureFiles(paths), np.array(images)
    assert pictures.shape == (6, 5, 7, 3)
    assert (pictures.ndim, pictures.dtype, len(pictures)) == (4, np.uint8, 6)
    assert pictures.paths == paths
    assert pictures.skipped == []
    mask = np.array([True, False, True, False, False, True])
    for rows in (2, -1, np.int64(3), slice(1, 5, 2), slice(3, 3), [4, 0], mask, []):
        np.testing.assert_array_equal(pictures[rows], images[rows])
        assert pictures[rows].dtype == np.uint8
    np.testing.assert_array_equal(np.asarray(pictures), images)
    np.testing.assert_array_equal([*pictures], images)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(pictures))[1:3], images[1:3]
    )
    taken = pictures.take([4, 1]).take(slice(1, None))
    assert (taken.paths, taken.shape) == ([paths[1]], (1, 5, 7, 3))
    np.testing.assert_array_equal(taken[:], images[1:2])
    assert repr(taken) == "<1 picture files of shape (5, 7, 3)>"
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(pictures, copy=False)
    with pytest.raises(IndexError):
        pictures[6]
    with pytest.raises(IndexError):
        pictures[[0.5]]


def test_scikit_learn_splits_it(tmp_path, rgb):
    paths = [write(tmp_path / f"{i}.png", rgb + np.uint8(i)) for i in range(4)]
    train, test = train_test_split(PictureFiles(paths), test_size=1, random_state=0)
    found = np.sort([*train[:, 0, 0, 0], *test[:, 0, 0, 0]])
    np.testing.assert_array_equal(found, np.sort([rgb[0, 0, 0] + i for i in range(4)]))


def test_nothing_is_read_before_it_is_asked_for(tmp_path, rgb):
    paths = [write(tmp_path / f"{i}.png", rgb) for i in range(2)]
    pictures = PictureFiles(paths)
    paths[1].unlink()
    np.testing.assert_array_equal(pictures[0], rgb)
    with pytest.raises(FileNotFoundError, match=r"1\.png: there is no such file"):
        pictures[:]
    write(paths[1], rgb[:3])
    pictures = PictureFiles(paths[1:])
    write(paths[1], rgb)
    assert pictures[:].shape == (1, 3, 7, 3)  # the size that was promised


def test_files_need_no_memory_until_they_are_read(tmp_path):
    path = write(tmp_path / "a.png", np.zeros((500, 500), np.uint8))
    pictures = PictureFiles([path] * 1000)
    assert pictures.shape == (1000, 500, 500, 1)
    assert len(pickle.dumps(pictures)) < 200_000


# ----------------------------------------------------------------------- kinds of files


def only(path, **options):
    return PictureFiles([path], **options)[0]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp", "jp2", "gif"])
def test_formats(tmp_path, suffix, rgb):
    rgb = np.repeat(np.repeat(rgb, 8, axis=0), 8, axis=1)
    options = {"webp": {"lossless": True}}.get(suffix, {})
    path = write(tmp_path / f"a.{suffix}", rgb, **options)
    found = only(path)
    assert found.shape == rgb.shape
    if suffix in ("jp2", "gif"):  # lossy, or 256 colours
        assert np.abs(found.astype(int) - rgb).mean() < 12
    else:
        np.testing.assert_array_equal(found, rgb)


def test_the_name_does_not_matter(tmp_path, rgb):
    path = write(tmp_path / "Prüfbild 部品 (1).PNG", rgb)
    np.testing.assert_array_equal(only(path), rgb)
    np.testing.assert_array_equal(only(str(path)), rgb)
    renamed = path.rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(only(renamed), rgb)


def test_grey_and_colour(tmp_path, rgb):
    grey = rgb[..., 0]
    paths = [write(tmp_path / "g.png", grey), write(tmp_path / "c.png", rgb)]
    np.testing.assert_array_equal(only(paths[0])[..., 0], grey)
    np.testing.assert_array_equal(only(paths[0], mode="rgb"), np.dstack([grey] * 3))
    luma = only(paths[1], mode="gray")[..., 0]
    assert np.abs(luma - rgb @ [0.299, 0.587, 0.114]).max() <= 1
    mixed = PictureFiles(paths)  # no colour is lost, whichever comes first
    assert mixed.shape == (2, 5, 7, 3)
    np.testing.assert_array_equal(mixed[0], np.dstack([grey] * 3))
    np.testing.assert_array_equal(mixed[1], rgb)
    assert PictureFiles(paths, mode="gray").shape == (2, 5, 7, 1)


def test_bilevel(tmp_path, rgb):
    path = write(tmp_path / "a.png", Image.fromarray(rgb[..., 0] > 99))
    np.testing.assert_array_equal(only(path)[..., 0], 255 * (rgb[..., 0] > 99))


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits(tmp_path, suffix, rgb):
    deep = rgb[..., 0].astype(np.uint16) * 257 - rgb[..., 1]
    deep[0, 0], deep[0, 1] = 0, 65535
    path = write(tmp_path / f"a.{suffix}", deep)
    pictures = PictureFiles([path])
    assert (pictures.shape, pictures.dtype) == ((1, 5, 7, 1), np.float32)
    np.testing.assert_allclose(pictures[0][..., 0], deep / 65535, rtol=1e-6)
    assert pictures.take([0])[:].dtype == np.float32
    shallow = write(tmp_path / "b.png", rgb)
    both = PictureFiles([path, shallow])
    assert both.shape == (2, 5, 7, 3)
    np.testing.assert_allclose(both[0], np.dstack([deep / 65535] * 3), rtol=1e-6)
    np.testing.assert_allclose(both[1], rgb / 255, rtol=1e-6)


def test_float_and_wide_pictures(tmp_path, rgb):
    values = rgb[..., 0].astype(np.float32) / 300
    np.testing.assert_array_equal(
        only(write(tmp_path / "f.tif", values))[..., 0], values
    )
    path = write(tmp_path / "g.tif", values * 1000)
    with pytest.raises(ValueError, match=r"g\.tif: .* values from .*0 to 1 are needed"):
        only(path)
    path = write(tmp_path / "h.tif", Image.fromarray(rgb[..., 0].astype(np.int32)))
    np.testing.assert_allclose(only(path)[..., 0], rgb[..., 0] / 65535, rtol=1e-6)


def test_transparency_is_dropped(tmp_path, rgb):
    alpha = np.full((5, 7), 10, np.uint8)
    path = write(tmp_path / "a.png", np.dstack([rgb, alpha]))
    np.testing.assert_array_equal(only(path), rgb)
    path = write(tmp_path / "b.png", Image.fromarray(np.dstack([rgb[..., 0], alpha])))
    np.testing.assert_array_equal(only(path)[..., 0], rgb[..., 0])


def test_colours_that_were_multiplied_by_their_opacity(tmp_path, monkeypatch, rgb):
    path = write(tmp_path / "a.png", np.full((2, 2, 4), 100, np.uint8))
    opened = Image.open
    monkeypatch.setattr(
        Image, "open", lambda *args, **options: opened(*args, **options).convert("RGBa")
    )
    # 100 at an opacity of 100 / 255, multiplied and divided again
    assert np.abs(only(path).astype(int) - 100).max() <= 1


@pytest.mark.parametrize("transparency", [None, 3, bytes([9, 0, 128])])
def test_palettes(tmp_path, transparency):
    colours = np.array([[0, 0, 0], [250, 3, 9], [7, 99, 80], [1, 2, 3]], np.uint8)
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4
    image = Image.fromarray(indices)
    image.putpalette(colours.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    path = write(tmp_path / "a.png", image, **options)
    with Image.open(path) as stored:
        assert stored.mode == "P"
    np.testing.assert_array_equal(only(path), colours[indices])
    luma = only(path, mode="gray")[..., 0]
    assert np.abs(luma - colours[indices] @ [0.299, 0.587, 0.114]).max() <= 1


def test_cmyk_jpeg(tmp_path):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[..., 0] = 255  # cyan only
    path = write(tmp_path / "a.jpg", Image.fromarray(inks, mode="CMYK"), quality=100)
    assert np.abs(only(path).astype(int) - [0, 255, 255]).max() <= 3
    assert PictureFiles([path], mode="gray").shape == (1, 16, 16, 1)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation(tmp_path, suffix, turn):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8], upright[:8, 24:], upright[8:, :8] = 250, 160, 80
    stored = {  # how a camera that was held so writes the picture
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100}}.get(suffix, {})
    path = tmp_path / f"a.{suffix}"
    write(path, np.ascontiguousarray(stored), exif=exif, **options)
    pictures = PictureFiles([path])
    assert pictures.shape == (1, 16, 32, 3)
    assert np.abs(pictures[0].astype(int) - upright).max() <= 3
    np.testing.assert_array_equal(pictures.sizes, [[16, 32]])


def test_damaged_exif_leaves_the_picture(tmp_path, rgb):
    path = write(tmp_path / "a.png", rgb, exif=b"Exif\x00\x00nonsense")
    np.testing.assert_array_equal(only(path), rgb)


@pytest.mark.parametrize("suffix", ["gif", "tif"])
def test_the_first_of_several_pictures(tmp_path, suffix, rgb):
    others = [Image.fromarray(rgb[..., i]) for i in (1, 2)]
    path = tmp_path / f"a.{suffix}"
    write(path, rgb[..., 0], save_all=True, append_images=others)
    pictures = PictureFiles([path], mode="gray")
    np.testing.assert_array_equal(pictures[0][..., 0], rgb[..., 0])


def test_resizing_is_antialiased(tmp_path):
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))  # finer than the result
    paths = [write(tmp_path / "a.png", stripes), write(tmp_path / "b.png", stripes[:9])]
    pictures = PictureFiles(paths, size=(8, 6))
    assert pictures.shape == (2, 8, 6, 1)
    assert np.abs(pictures[:].astype(int) - 127).max() < 20
    np.testing.assert_array_equal(pictures.sizes, [[64, 64], [9, 64]])
    deep = write(tmp_path / "c.png", stripes.astype(np.uint16) * 257)
    assert np.abs(only(deep, size=(8, 6)) - 0.5).max() < 0.08
    assert only(paths[0], size=(64, 64))[..., 0].tolist() == stripes.tolist()


# ------------------------------------------------------------------- files that are bad


def bomb(path):
    """Write a PNG whose header promises 40,000 x 40,000 pixels."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + header, b"IDAT" + zlib.compress(b"\0" * 999)):
        content += struct.pack(">I", len(chunk) - 4) + chunk
        content += struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(content)


def spoil(path, how):
    """Make one of several files bad."""
    content = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("not a picture", encoding="utf-8")
    elif how == "header":
        path.write_bytes(content[:20])
    elif how == "missing":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "bomb":
        bomb(path)
    elif how == "truncated":
        path.write_bytes(content[: len(content) * 2 // 3])
    elif how == "garbled":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + b"\x00" * 40 + content[middle + 40 :])


KINDS = {
    "empty": "the file is empty",
    "text": "is none of BMP, GIF",
    "header": "cannot be read as a picture",
    "missing": "there is no such file",
    "folder": "is a folder",
    "bomb": "decompression bomb",
}


@pytest.fixture
def three(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    paths = [tmp_path / "a.png", tmp_path / "ö.png", tmp_path / "c.png"]
    return images, [write(*pair) for pair in zip(paths, images, strict=True)]


@pytest.mark.parametrize("how", KINDS)
def test_bad_files_are_named_at_once(three, how):
    images, paths = three
    spoil(paths[1], how)
    with pytest.raises((ValueError, FileNotFoundError), match=KINDS[how]) as caught:
        PictureFiles(paths)
    assert str(paths[1]) in str(caught.value)
    assert "on_error='skip'" in str(caught.value)
    pictures = PictureFiles(paths, on_error="skip")
    assert pictures.paths == [paths[0], paths[2]]
    [(path, reason)] = pictures.skipped
    assert path == paths[1]
    assert KINDS[how] in reason
    np.testing.assert_array_equal(pictures[:], images[[0, 2]])


@pytest.mark.parametrize("how", [*KINDS, "truncated", "garbled"])
def test_no_file_stays_open(three, how):
    _, paths = three
    spoil(paths[1], how)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # files that are left open warn as they go
        with contextlib.suppress(ValueError, FileNotFoundError):
            PictureFiles(paths)[:]
        gc.collect()
    assert caught == []


@pytest.mark.parametrize("how", ["truncated", "garbled"])
def test_files_that_break_off(three, how):
    images, paths = three
    spoil(paths[1], how)
    pictures = PictureFiles(paths)  # the header is whole
    np.testing.assert_array_equal(pictures[[0, 2]], images[[0, 2]])
    with pytest.raises(ValueError, match=r"ö\.png: cannot be read as a picture"):
        pictures[:]
    pictures = PictureFiles(paths, on_error="skip")
    assert [path for path, _ in pictures.skipped] == [paths[1]]
    np.testing.assert_array_equal(pictures[:], images[[0, 2]])


@pytest.mark.parametrize("odd", [0, 1])
def test_one_odd_size_among_equals(three, odd):
    images, paths = three
    write(paths[odd], images[odd][:, :25])
    with pytest.raises(ValueError, match=r"20 x 25 .*2 of 3 .* 20 x 30") as e:
        PictureFiles(paths)
    assert str(paths[odd]) in str(e.value)
    assert "size=" in str(e.value)
    pictures = PictureFiles(paths, on_error="skip")
    assert [path for path, _ in pictures.skipped] == [paths[odd]]
    assert PictureFiles(paths, size=(20, 30)).shape == (3, 20, 30, 3)


def test_several_bad_files_are_counted(three):
    _, paths = three
    spoil(paths[0], "empty")
    spoil(paths[2], "text")
    with pytest.raises(ValueError, match=r"a\.png.*and 1 more"):
        PictureFiles(paths)
    spoil(paths[1], "header")
    with pytest.raises(ValueError, match="none of 3 files can be read"):
        PictureFiles(paths, on_error="skip")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"paths": []}, ValueError, "paths is empty"),
        ({"paths": "a.png"}, TypeError, r"one path 'a\.png'"),
        ({"mode": "RGB"}, ValueError, "mode='RGB'"),
        ({"on_error": "ignore"}, ValueError, "on_error='ignore'"),
        ({"size": 256}, ValueError, "size=256"),
        ({"size": (0, 5)}, ValueError, r"size=\(0, 5\)"),
        ({"size": (5, 5, 3)}, ValueError, r"size=\(5, 5, 3\)"),
    ],
)
def test_wrong_parameters(arguments, error, message):
    with pytest.raises(error, match=message):
        PictureFiles(**{"paths": ["a.png"], **arguments})


def test_without_pillow_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'skad\[image\]'"):
        PictureFiles([tmp_path / "a.png"])


# ------------------------------------------------------------------------------ folders


@pytest.fixture
def mvtec(tmp_path, rgb):
    """A folder as MVTec's, with things that are no pictures in it."""
    root = tmp_path / "nut"
    for i in range(3):
        write(root / "train" / "good" / f"{i}.png", rgb + np.uint8(i))
    for i in range(2):
        write(root / "test" / "good" / f"{i}.png", rgb)
    for defect, value in (("scratch", 255), ("Dent", 1)):
        for i in range(2):
            write(root / "test" / defect / f"{i}.png", rgb + np.uint8(i))
            mask = np.zeros((5, 7), np.uint8)
            mask[i, i:3] = value
            write(root / "ground_truth" / defect / f"{i}_mask.png", mask)
    (root / "license.txt").write_text("free", encoding="utf-8")
    (root / "train" / "good" / ".DS_Store").write_bytes(b"x")
    (root / "train" / "good" / "._0.png").write_bytes(b"x")
    (root / "train" / "good" / "Thumbs.db").write_bytes(b"x")
    (root / "test" / ".cache").mkdir()
    return root


def test_mvtec(mvtec, rgb):
    data = load_folder(mvtec)
    assert data.X_train.shape == (3, 5, 7, 3)
    assert data.X_test.shape == (6, 5, 7, 3)
    assert data.image_shape == (5, 7, 3)
    assert data.title == "nut"
    names = ["Dent", "Dent", "good", "good", "scratch", "scratch"]
    assert list(data.defects_test) == names
    np.testing.assert_array_equal(data.y_test, [-1, -1, 1, 1, -1, -1])
    assert [path.parent.name for path in data.X_test.paths] == names
    np.testing.assert_array_equal(data.X_train[2], rgb + np.uint8(2))
    masks = np.zeros((6, 5, 7), bool)
    masks[[0, 4], 0, :3] = masks[[1, 5], 1, 1:3] = True
    assert data.masks_test.shape == masks.shape
    np.testing.assert_array_equal(data.masks_test[:], masks)
    np.testing.assert_array_equal(np.asarray(data.masks_test), masks)
    np.testing.assert_array_equal(data.masks_test[[5, 0]], masks[[5, 0]])
    np.testing.assert_array_equal(data.masks_test[-1], masks[-1])
    again = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(again.masks_test[:], masks)
    assert data.skipped == []


def test_masks_are_resized_with_their_pictures(mvtec):
    data = load_folder(mvtec, size=(10, 14), mode="gray")
    assert data.X_test[:].shape == (6, 10, 14, 1)
    small = load_folder(mvtec).masks_test[:]
    large = np.repeat(np.repeat(small, 2, axis=1), 2, axis=2)
    np.testing.assert_array_equal(data.masks_test[:], large)


def test_pictures_without_masks_or_test(mvtec):
    os.rename(mvtec / "ground_truth", mvtec / "elsewhere")
    data = load_folder(mvtec)
    assert data.masks_test is None
    assert len(data.X_test) == 6
    os.rename(mvtec / "test", mvtec / "later")
    data = load_folder(mvtec)
    assert (data.X_test, data.y_test, data.masks_test) == (None, None, None)


def test_a_mask_is_missing(mvtec):
    (mvtec / "ground_truth" / "scratch" / "1_mask.png").unlink()
    with pytest.raises(ValueError, match=r"1\.png: no mask 1_mask\.png"):
        load_folder(mvtec)
    data = load_folder(mvtec, on_error="skip")
    assert [path.name for path, _ in data.skipped] == ["1.png"]
    assert list(data.defects_test) == ["Dent", "Dent", "good", "good", "scratch"]
    assert len(data.X_test) == len(data.masks_test) == len(data.y_test) == 5


def test_a_mask_of_another_size(mvtec):
    write(mvtec / "ground_truth" / "Dent" / "0_mask.png", np.zeros((7, 5), np.uint8))
    with pytest.raises(ValueError, match=r"0_mask\.png: the mask is 7 x 5.* 5 x 7"):
        load_folder(mvtec)


@pytest.mark.parametrize("where", ["train/good/1.png", "test/scratch/0.png"])
def test_labels_stay_with_pictures_when_some_are_skipped(mvtec, where):
    (mvtec / where).write_bytes(b"broken")
    with pytest.raises(ValueError, match=where.split("/")[-1]):
        load_folder(mvtec)
    data = load_folder(mvtec, on_error="skip")
    assert [path for path, _ in data.skipped] == [mvtec / where]
    for path, defect, y, mask in zip(
        data.X_test.paths, data.defects_test, data.y_test, data.masks_test, strict=True
    ):
        assert path.parent.name == defect
        assert (y == 1) == (defect == "good") == (not mask.any())
    assert len(data.X_train) + len(data.X_test) == 8


def test_no_training_picture_can_be_read(mvtec):
    for path in (mvtec / "train" / "good").glob("?.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 3 training files"):
        load_folder(mvtec, on_error="skip")


def test_several_masks_of_one_picture(mvtec):
    for i in (0, 1):
        (mvtec / "ground_truth" / "scratch" / f"{i}_mask.png").unlink()
        for j in (0, 1):
            mask = np.zeros((5, 7), np.uint8)
            mask[i, j] = 200 + j
            write(mvtec / "ground_truth" / "scratch" / str(i) / f"{j:03}.png", mask)
    masks = load_folder(mvtec).masks_test[4:]
    assert masks.sum() == 4
    assert masks[0, 0, :2].all()
    assert masks[1, 1, :2].all()


@pytest.mark.parametrize("kind", ["L", "1", "P", "RGB", "RGBA", "LA", "I;16", "jpeg"])
def test_kinds_of_masks(mvtec, kind):
    mask = np.zeros((5, 7), np.uint8)
    mask[:3, :4] = 255
    path = mvtec / "ground_truth" / "Dent" / "0_mask.png"
    if kind == "jpeg":
        path.unlink()
        write(path.with_suffix(".jpg"), mask, quality=60)
    elif kind == "I;16":
        write(path, mask.astype(np.uint16))
    elif kind == "P":  # a palette whose second colour is black, too
        image = Image.fromarray(mask // 255)
        image.putpalette([0] * 6)
        write(path, image)
    else:
        image = Image.fromarray(mask)
        write(path, image.convert(kind))
    np.testing.assert_array_equal(load_folder(mvtec).masks_test[0], mask > 0)


def test_good_and_bad(tmp_path, rgb):
    for i in range(10):
        write(tmp_path / "OK" / f"{i}.png", rgb)
        write(tmp_path / "Good" / f"{i}.png", rgb)
    write(tmp_path / "bad" / "7.png", rgb)
    data = load_folder(tmp_path)
    assert len(data.X_train) == 8
    assert list(data.defects_test) == ["good", "good", "bad"]
    np.testing.assert_array_equal(data.y_test, [1, 1, -1])
    held_out = [path.name for path in data.X_test.paths[:2]]
    assert held_out == ["2.png", "7.png"]  # spread, and the same every time
    train = {path.name for path in data.X_train.paths}
    assert train.isdisjoint(held_out)
    write(tmp_path / "bad" / "bent" / "1.png", rgb)
    data = load_folder(tmp_path, test_share=0)
    assert len(data.X_train) == 10
    assert list(data.defects_test) == ["bad", "bent"]
    assert data.masks_test is None
    mask = np.ones((5, 7), np.uint8)
    write(tmp_path / "ground_truth" / "bent" / "1_mask.png", mask)
    write(tmp_path / "ground_truth" / "7_mask.png", 0 * mask)
    masks = load_folder(tmp_path, test_share=0).masks_test
    assert masks[:].mean(axis=(1, 2)).tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"test_share=1"):
        load_folder(tmp_path, test_share=1)


def test_a_flat_folder(tmp_path, rgb):
    for i in range(3):
        write(tmp_path / f"{i}.JPG", rgb)
    (tmp_path / "notes").mkdir()
    data = load_folder(str(tmp_path))
    assert len(data.X_train) == 3
    assert data.X_test is None
    write(tmp_path / "more" / "3.png", rgb)
    with pytest.raises(ValueError, match="not a layout that is known"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([], "no folders and 0 pictures"),
        (["a/1.png", "b/1.png"], "the folders a/, b/ and 0 pictures"),
        (["good/1.png"], "the folders good/ and 0 pictures"),
        (["train/1.png", "test/good/1.png"], "train/, test/good/ and 0"),
    ],
)
def test_other_layouts_are_described(tmp_path, rgb, files, found):
    for name in files:
        write(tmp_path / name, rgb)
    with pytest.raises(ValueError, match="not a layout that is known") as caught:
        load_folder(tmp_path)
    message = str(caught.value)
    assert "train/good/" in message
    assert "good/ and bad/" in message
    assert found.split(" and ")[0].split(", ")[-1] in message


def test_folders_that_are_empty_or_missing(tmp_path, rgb):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_folder(tmp_path / "nowhere")
    write(tmp_path / "bad" / "1.png", rgb)
    (tmp_path / "good").mkdir()
    with pytest.raises(ValueError, match="good: there is no picture in it"):
        load_folder(tmp_path)
    write(tmp_path / "good" / "1.png", rgb)
    (tmp_path / "bad" / "1.png").unlink()
    with pytest.raises(ValueError, match="bad: there is no picture in it"):
        load_folder(tmp_path)


def test_shared_folders(shared):
    data = load_folder(shared / "images" / "cookie")
    assert data.X_train.shape == (31, 512, 384, 3)
    assert (data.y_test == 1).sum() == 14
    assert sum(mask.any() for mask in data.masks_test) == 32
    data = load_folder(shared / "images" / "magnetic_tile")
    assert data.X_train.shape == (400, 256, 256, 1)
    names, counts = np.unique(data.defects_test.astype(str), return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "blowhole": 115,
        "break": 85,
        "crack": 57,
        "fray": 32,
        "good": 150,
        "uneven": 99,
    }
