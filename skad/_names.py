"""Names that are like one that nothing is called."""

from difflib import get_close_matches

# What other libraries call a detector, where no spelling shows it.
_ELSEWHERE = {
    "EllipticEnvelope": "Mahalanobis",
    "EnergyBased": "Energy",
    "GaussianMixture": "GMM",
    "IForest": "IsolationForest",
    "KernelDensity": "KDE",
    "KPCA": "KernelPCAReconstruction",
    "LocalOutlierFactor": "LOF",
    "MCD": "Mahalanobis",
    "MSP": "MaxSoftmax",
    "OCSVM": "OneClassSVM",
    "PCA": "PCAReconstruction",
}


def did_you_mean(name, names, n=1):
    """Return a question for the `n` nearest of some names, or nothing.

    Private names are asked for by tools, often, and by nobody who mistypes one.
    """
    if name.startswith("_"):
        return ""
    lower = {known.lower(): known for known in names}
    elsewhere = {key.lower(): found for key, found in _ELSEWHERE.items()}
    near = [elsewhere.get(name.lower())]
    if near[0] not in lower.values():
        found = get_close_matches(name.lower(), lower, n=n)
        near = [lower[key] for key in found]
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
