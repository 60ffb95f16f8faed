"""A trained model as people use it: raw text in; its probability, or a continuation, out.

Importing this package is cheap; torch is imported when a neural model is loaded.
"""

from nextword.serving.loading import TOKENIZER_FILES, load_text_model
from nextword.serving.sampling import Sampling
from nextword.serving.text_model import Score, TextModel
from nextword.serving.vocabulary import Vocabulary

__all__ = ["TOKENIZER_FILES", "Sampling", "Score", "TextModel", "Vocabulary", "load_text_model"]
