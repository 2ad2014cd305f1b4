from skad.series._deepant import DeepAnT as DeepAnT
from skad.series._discord import Discord as Discord
from skad.series._gaps import split_at_gaps as split_at_gaps
from skad.series._group_scaler import GroupScaler as GroupScaler
from skad.series._kmeans import KMeansAD as KMeansAD
from skad.series._left_matrix_profile import LeftMatrixProfile as LeftMatrixProfile
from skad.series._lstm_autoencoder import LSTMAutoEncoder as LSTMAutoEncoder
from skad.series._lstm_forecaster import LSTMForecaster as LSTMForecaster
from skad.series._matrix_profile import MatrixProfile as MatrixProfile
from skad.series._midas import MIDAS as MIDAS
from skad.series._midasr import MIDASR as MIDASR
from skad.series._omni_anomaly import OmniAnomaly as OmniAnomaly
from skad.series._pasad import PASAD as PASAD
from skad.series._regression_forecaster import RegressionForecaster as RegressionForecaster
from skad.series._seasonal_trend import SeasonalTrendResiduals as SeasonalTrendResiduals
from skad.series._spectral_residual import SpectralResidual as SpectralResidual
from skad.series._subsequence_knn import SubsequenceKNN as SubsequenceKNN
from skad.series._subsequence_lof import SubsequenceLOF as SubsequenceLOF
from skad.series._usad import USAD as USAD
from skad.series._window import WindowDetector as WindowDetector
from skad.series._z_score import ZScore as ZScore

__all__ = ["DeepAnT", "Discord", "GroupScaler", "KMeansAD", "LSTMAutoEncoder", "LSTMForecaster", "LeftMatrixProfile", "MIDAS", "MIDASR", "MatrixProfile", "OmniAnomaly", "PASAD", "RegressionForecaster", "SeasonalTrendResiduals", "SpectralResidual", "SubsequenceKNN", "SubsequenceLOF", "USAD", "WindowDetector", "ZScore", "split_at_gaps"]
