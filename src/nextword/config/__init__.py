"""``params.yaml`` as a frozen, typed tree.

Every section of the file is a class here, every key a field; the docstring under a field is its documentation. Unknown
keys, wrong types and values out of range raise ValueError with the place in the file, the value given, the values
allowed and, for a misspelt key, its nearest neighbour.
"""

from nextword.config.corpus import CorpusParams, HubSource, SotuSource, SplitParams, TextSource, TokenizerParams
from nextword.config.loading import load_params
from nextword.config.probes import (
    ContextParams,
    EmbeddingParams,
    ExplodingParams,
    GradientParams,
    MemoryParams,
    ProbeParams,
    SparsityParams,
    WindowParams,
)
from nextword.config.sections import (
    CompareParams,
    EvaluateParams,
    ModelParams,
    NgramParams,
    Params,
    ScheduleParams,
    TrackingParams,
    TrainParams,
)

__all__ = [
    "CompareParams",
    "ContextParams",
    "CorpusParams",
    "EmbeddingParams",
    "EvaluateParams",
    "ExplodingParams",
    "GradientParams",
    "HubSource",
    "MemoryParams",
    "ModelParams",
    "NgramParams",
    "Params",
    "ProbeParams",
    "ScheduleParams",
    "SotuSource",
    "SparsityParams",
    "SplitParams",
    "TextSource",
    "TokenizerParams",
    "TrackingParams",
    "TrainParams",
    "WindowParams",
    "load_params",
]
