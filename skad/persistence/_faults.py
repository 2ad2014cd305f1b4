"""The one error of files that are not loaded."""


class CorruptFileError(ValueError):
    """A file that is damaged, forged, or made by a newer skad.

    Examples
    --------
    >>> from skad.persistence import CorruptFileError
    >>> issubclass(CorruptFileError, ValueError)
    True
    """
