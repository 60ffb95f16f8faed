"""Search of learning rate and dropout, the same for every model that is tuned.

``tune_model`` searches (:mod:`nextword.tuning.search`); ``tuned`` gives the parameters with what was found. Importing
this package is cheap: it brings neither torch nor Optuna.
"""

from nextword.tuning.settings import not_searched, tuned

__all__ = ["not_searched", "tuned"]
