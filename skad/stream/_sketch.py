"""Count-min sketches of many sets of cells at once."""

import numpy as np


def odd(random, size):
    """Return random odd numbers of 64 bits."""
    return random.randint(2**64, size=size, dtype=np.uint64) | np.uint64(1)


def hashed(keys, factors, bits):
    """Return places (r, s, b) in one table of all counts, by multiplicative hashes.

    Parameters
    ----------
    keys : ndarray of shape (s, b), uint64
        What is counted in each of the sketches.
    factors : ndarray of shape (r, s), uint64
        Odd factors, of each of the r rows of each of the sketches.
    bits : int
        A row of a sketch has 2**bits columns.
    """
    columns = keys * factors[..., None]
    columns >>= np.uint64(64 - bits)
    columns = columns.view(np.int64)
    columns += (np.arange(factors.size).reshape(factors.shape) << bits)[..., None]
    return columns
