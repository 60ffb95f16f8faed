"""``params.yaml`` as a frozen, typed tree.

Every section of the file is a class here, every key a field; the docstring under a field is its documentation. Unknown
keys, wrong types and values out of range raise ValueError with the place in the file, the value given, the values
allowed and, for a misspelt key, its nearest neighbour.
"""

from nextword.config.comparison import (
    AdaptiveParams,
    CacheParams,
    CapacityParams,
    CompareParams,
    DynamicParams,
    PublishedParams,
    ThroughputParams,
    TuneParams,
)
from nextword.config.corpus import CorpusParams, HubSource, SotuSource, SplitParams, TextSource, TokenizerParams
from nextword.config.loading import load_params, read_params
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
    EvaluateParams,
    ModelParams,
    NgramParams,
    Params,
    ScheduleParams,
    SizeParams,
    TrackingParams,
    TrainParams,
)

__all__ = [
    "AdaptiveParams",
    "CacheParams",
    "CapacityParams",
    "CompareParams",
    "ContextParams",
    "CorpusParams",
    "DynamicParams",
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
    "PublishedParams",
    "ScheduleParams",
    "SizeParams",
    "SotuSource",
    "SparsityParams",
    "SplitParams",
    "TextSource",
    "ThroughputParams",
    "TokenizerParams",
    "TrackingParams",
    "TrainParams",
    "TuneParams",
    "WindowParams",
    "load_params",
    "read_params",
]
