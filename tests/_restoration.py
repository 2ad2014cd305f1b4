"""Pictures for generators that restore them, and sizes that their layers must bear."""

import numpy as np

SIZES = [(1, 1), (1, 7), (5, 1), (2, 3), (16, 16), (17, 30)]


def pictures(n, size=(16, 16), seed=0):
    """Return `n` pictures of a wave, each with a phase of its own, and noise."""
    rng = np.random.default_rng(seed)
    waves = 0.2 * np.sin(np.arange(size[1]) / 2 + rng.uniform(0, 6, (n, 1, 1)))
    return 0.5 + waves + rng.normal(0, 0.02, (n, *size))
