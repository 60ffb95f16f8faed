"""Models that learn from the test text as they read it: neural cache and dynamic evaluation."""

from nextword.evaluation.adaptive.run import Adapted, score_adaptively

__all__ = ["Adapted", "score_adaptively"]
