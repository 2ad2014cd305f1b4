"""Out-of-distribution detectors around a classifier."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_ash": ["ASH"],
        "_compare": ["compare", "extract"],
        "_dice": ["DICE"],
        "_energy": ["Energy"],
        "_entropy": ["Entropy"],
        "_gen": ["GEN"],
        "_generalized_odin": ["GeneralizedODIN"],
        "_grad_norm": ["GradNorm"],
        "_kl_matching": ["KLMatching"],
        "_knn_ood": ["KNNOOD"],
        "_mahalanobis_ood": ["MahalanobisOOD"],
        "_max_logit": ["MaxLogit"],
        "_max_softmax": ["MaxSoftmax"],
        "_nn_guide": ["NNGuide"],
        "_odin": ["ODIN"],
        "_ood_detector": ["OODDetector"],
        "_open_max": ["OpenMax"],
        "_outlier_exposure": ["OutlierExposure"],
        "_react": ["ReAct"],
        "_relative_mahalanobis": ["RelativeMahalanobis"],
        "_scale": ["SCALE"],
        "_she": ["SHE"],
        "_temperature_scaling": ["TemperatureScaling"],
        "_vim": ["ViM"],
    },
)
