"""The one error of files that are not loaded."""


class CorruptFileError(ValueError):
    """A file that is damaged, forged, or made by a newer skad.

    Parameters
    ----------
    message : str
        What is wrong with it.

    Examples
    --------
    >>> from skad.persistence import CorruptFileError
    >>> issubclass(CorruptFileError, ValueError)
    True
    """

    def __init__(self, message):
        super().__init__(message)
