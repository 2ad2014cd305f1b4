"""Detectors on time series: one score per time step, a map over the channels."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_deepant": ["DeepAnT"],
        "_kmeans": ["KMeansAD"],
        "_left_matrix_profile": ["LeftMatrixProfile"],
        "_lstm_autoencoder": ["LSTMAutoEncoder"],
        "_lstm_forecaster": ["LSTMForecaster"],
        "_matrix_profile": ["MatrixProfile"],
        "_midas": ["MIDAS"],
        "_midasr": ["MIDASR"],
        "_omni_anomaly": ["OmniAnomaly"],
        "_pasad": ["PASAD"],
        "_spectral_residual": ["SpectralResidual"],
        "_subsequence_knn": ["SubsequenceKNN"],
        "_subsequence_lof": ["SubsequenceLOF"],
        "_usad": ["USAD"],
        "_window": ["WindowDetector"],
    },
)
