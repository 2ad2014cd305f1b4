from skad.persistence._faults import CorruptFileError as CorruptFileError
from skad.persistence._file import load as load
from skad.persistence._file import save as save

__all__ = ["CorruptFileError", "load", "save"]
