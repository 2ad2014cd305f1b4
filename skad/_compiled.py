"""Loops that numba compiles, where it is installed and the work repays it."""

import threading

# Elements that arrays work through in the seconds that compiling takes.
_REPAYS = 2 * 10**9


class Compiled:
    """A function over arrays, and the loop over elements that numba makes of it.

    Both do the same operations in the same order, so that they return the same bits and
    differ in time alone. Arrays are worked on until as much time has gone into them as
    compiling takes: who does little work never waits for it, and nobody waits longer
    than twice what the quicker way would have taken.

    Parameters
    ----------
    arrays, elements : callable
        The function in its two ways, `elements` in what numba understands.
    """

    def __init__(self, arrays, elements):
        self._arrays, self._elements = arrays, elements
        self._done, self._quick = 0, None
        self._lock = threading.Lock()

    def __call__(self, *arguments, work):
        """Return what the function returns; `work` is how many elements it takes."""
        if self._quick is None and self._done < _REPAYS:
            self._done += work
            return self._arrays(*arguments)
        if self._quick is None:
            with self._lock:
                self._quick = self._quick or self._compile()
        return self._quick(*arguments)

    def _compile(self):
        try:
            from numba import njit
        except ImportError:  # is not there, or does not fit this NumPy
            return self._arrays
        return njit(nogil=True)(self._elements)
