from skad.one_class._ae1svm import AE1SVM as AE1SVM
from skad.one_class._dasvdd import DASVDD as DASVDD
from skad.one_class._deep_sad import DeepSAD as DeepSAD
from skad.one_class._deep_svdd import DeepSVDD as DeepSVDD
from skad.one_class._drocc import DROCC as DROCC
from skad.one_class._igd import IGD as IGD
from skad.one_class._mocca import MOCCA as MOCCA
from skad.one_class._occnn import OCCNN as OCCNN
from skad.one_class._ocnn import OCNN as OCNN
from skad.one_class._svdd import SVDD as SVDD
from skad.one_class._svm import OneClassSVM as OneClassSVM

__all__ = ["AE1SVM", "DASVDD", "DROCC", "DeepSAD", "DeepSVDD", "IGD", "MOCCA", "OCCNN", "OCNN", "OneClassSVM", "SVDD"]
