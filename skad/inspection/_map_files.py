"""Files of anomaly maps, written as the maps come."""

from pathlib import PurePath

import numpy as np

from skad._paths import as_path


class MapFiles:
    """Writes the map of each picture into a folder "maps", one at a time.

    Maps in grey need their scale, which the first pictures may have to show: until it
    is set, maps are kept as files that are turned into pictures then.

    Parameters
    ----------
    folder : str or Path
        The folder of the report.
    n : int
        The number of pictures.
    files : list of str or None
        What each picture is called; numbers if None.
    kind : {"png", "npy"}
        In grey, 128 at the threshold; or as they are, in float32.

    Attributes
    ----------
    names : list of str
        Where each map goes, below the folder of the report.
    """

    def __init__(self, folder, n, files, kind):
        self.folder, self.kind = as_path(folder, "folder"), kind
        self.names = _names(n, files, kind)
        self.scale = None
        self.waiting = []

    def write(self, i, heat):
        """Write the map (h, w) of a picture."""
        path = self.folder / self.names[i]
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.kind == "png" and self.scale is not None:
            self._draw(path, heat)
            return
        if self.kind == "png":
            path = path.with_name(f"{path.name}.npy")
            self.waiting.append(path)
        np.save(path, heat.astype(np.float32))

    def set_scale(self, low, level):
        """Set what is black, and what is 128 in grey."""
        self.scale = low, max(level - low, np.finfo(np.float32).tiny)
        for path in self.waiting:
            self._draw(path.with_suffix(""), np.load(path))
            path.unlink()
        self.waiting = []

    def _draw(self, path, heat):
        from PIL import Image

        low, unit = self.scale
        grey = np.clip(128 * (heat.astype(np.float64) - low) / unit, 0, 255)
        Image.fromarray(np.rint(grey).astype(np.uint8)).save(path)


def _names(n, files, kind):
    """Return where each map goes: the picture's own path, below "maps"."""
    if files is None:
        width = len(str(n - 1))
        return [f"maps/{i:0{width}d}.{kind}" for i in range(n)]
    paths = [PurePath(file) for file in files]
    stems = [path.with_suffix("").as_posix() for path in paths]
    if len(set(stems)) < len(stems):  # a.jpg beside a.png
        stems = [path.as_posix() for path in paths]
    return [f"maps/{stem}.{kind}" for stem in stems]
