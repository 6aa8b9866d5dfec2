"""Classical models as heads that are estimated at once and then are plain tensors.

scikit-learn does the estimation; what is kept is a module, so that saving, predicting and auditing
know only one kind of model.
"""

from .bayes import NaiveBayes
from .boosting import GradientBoosting
from .estimated import Estimated
from .fair import FairLogisticRegression
from .linear import LogisticRegression, Ridge
from .neighbours import NearestNeighbours
from .prototypes import Prototypes

__all__ = [
    "Estimated",
    "FairLogisticRegression",
    "GradientBoosting",
    "LogisticRegression",
    "NaiveBayes",
    "NearestNeighbours",
    "Prototypes",
    "Ridge",
]
