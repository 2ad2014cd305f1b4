from skad.model_selection._centrality import model_centrality as model_centrality
from skad.model_selection._curves import excess_mass_curve as excess_mass_curve
from skad.model_selection._curves import mass_volume_curve as mass_volume_curve
from skad.model_selection._label_free import ExcessMass as ExcessMass
from skad.model_selection._label_free import MassVolume as MassVolume
from skad.model_selection._label_free import excess_mass as excess_mass
from skad.model_selection._label_free import mass_volume as mass_volume
from skad.model_selection._novelty_fold import NoveltyKFold as NoveltyKFold
from skad.model_selection._query import query as query

__all__ = ["ExcessMass", "MassVolume", "NoveltyKFold", "excess_mass", "excess_mass_curve", "mass_volume", "mass_volume_curve", "model_centrality", "query"]
