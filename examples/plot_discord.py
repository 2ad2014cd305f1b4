"""
The odd beat in a series
========================

A discord is the stretch of a series that is least like every other stretch. The matrix
profile finds it without a training set and without knowing what is odd about it. The
series is made to look like a heart's electric signal, in which one beat comes early and
is broad.
"""

import matplotlib.pyplot as plt
import numpy as np

from skad import MatrixProfile
from skad.calibration import SPOT
from skad.inspection import SeriesDisplay
from skad.series import SubsequenceKNN

rng = np.random.default_rng(0)
rate = 100  # steps in a second


def beat(t, broad=1.0):
    """Return a beat around t = 0 seconds: the waves P, Q, R, S and T."""
    waves = [(-0.2, 0.1, 0.03), (-0.04, -0.15, 0.012), (0, 1, 0.014)]
    waves += [(0.04, -0.25, 0.014), (0.25, 0.3, 0.05)]
    return sum(h * np.exp(-(((t - at) / (w * broad)) ** 2) / 2) for at, h, w in waves)


t = np.arange(40 * rate) / rate
moments = np.cumsum(rng.normal(0.85, 0.03, 50)) - 1  # beats before and after, too
early = 30
moments[early] -= 0.25
signal = sum(
    beat(t - moment, 3.0 if number == early else 1.0)
    for number, moment in enumerate(moments)
)
signal += 0.1 * np.sin(2 * np.pi * 0.25 * t) + rng.normal(0, 0.02, len(t))
y = np.where(abs(t - moments[early]) < 0.4, -1, 1)  # -1 marks the odd beat

# %%
# Searched in the series itself: each window is compared with all others that do not
# overlap it. The windows are as long as a beat.

profile = MatrixProfile(window_size=80, contamination=0.02).fit(signal[:, None])
score = profile.score_samples(signal[:, None])
print(f"lowest score at {t[score.argmin()]:.1f} s, the odd beat is at", end=" ")
print(f"{moments[early]:.1f} s")

display = SeriesDisplay.from_estimator(
    profile, signal[:, None], y=y, time=t, names=["signal (mV)"]
)
display.axes_[-1].set_xlabel("time (s)")
plt.show()

# %%
# Learned from the past
# ---------------------
#
# A detector that has learned from the first 15 seconds judges the rest as it comes.
# With ``align="end"`` the score of a step looks at no later one, and ``SPOT`` turns the
# scores into alarms at a stated risk.

past, rest = signal[: 15 * rate, None], signal[15 * rate :, None]
watch = SubsequenceKNN(window_size=80, align="end").fit(past[: 10 * rate])
spot = SPOT(risk=1e-4).fit(-watch.score_stream(past[10 * rate :]))
alarms = spot.predict(-watch.score_stream(rest)) == -1
moment = t[15 * rate :][alarms]
print(f"{alarms.sum()} alarms, from {moment.min():.2f} s to {moment.max():.2f} s")
