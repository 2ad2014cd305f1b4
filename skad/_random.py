"""Where random numbers come from: never from NumPy's global generator."""

import numpy as np
from sklearn.utils import check_random_state

# What the parameter `random_state` takes.
Seed = int | np.random.RandomState | None


def generator(random_state):
    """Return a RandomState for an int, a RandomState or None.

    None is a fresh one: the global generator, which scikit-learn's
    `check_random_state` returns for None, is not ours to advance.
    """
    fresh = np.random.RandomState() if random_state is None else random_state
    return check_random_state(fresh)
