"""The code file of the logged models ("models from code"): MLflow runs it when a model is loaded.

Input: a table with the column ``text``. Params: ``mode`` is ``score`` or ``continue``; the others
are those of :class:`nextword.serving.Sampling`. Output: a table with a row a text: ``log_prob_nats``, ``num_tokens``
and ``perplexity`` (of a bidirectional model their pseudo counterparts: :class:`nextword.serving.Score`), or
``continuation`` (which a bidirectional model refuses).
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from nextword.serving import Sampling, TextModel, load_text_model


class LanguageModel(PythonModel):  # type: ignore[misc, unused-ignore]  # MLflow's class is not typed
    """:class:`nextword.serving.TextModel` behind MLflow's interface."""

    model: TextModel

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model, neural or n-gram, and its tokenizer from the artifacts ``model`` and ``ids``."""
        self.model = load_text_model(Path(context.artifacts["model"]), Path(context.artifacts["ids"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score or continue each text.

        Raises:
            ValueError: ``mode`` is unknown, a number is out of range, or a text is no string.
        """
        given = dict(params or {})
        mode = given.pop("mode", "score")
        texts = _texts(model_input["text"])
        if mode == "score":
            scores = self.model.score(texts)
            return pd.DataFrame([(s.log_prob_nats, s.num_tokens, s.perplexity) for s in scores], columns=list(SCORES))
        if mode == "continue":
            return pd.DataFrame({"continuation": self.model.continuations(texts, Sampling(**given))})
        raise ValueError(f"mode is {mode!r}; allowed: 'score', 'continue'")


def _texts(column: pd.Series) -> list[str]:
    """The texts of a column: ``{"text": ["one", "two"]}`` reaches us as one row that holds a list."""
    rows = (row if isinstance(row, (list, tuple, np.ndarray)) else [row] for row in column)
    texts = list(chain.from_iterable(rows))
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            found = "null" if pd.api.types.is_scalar(text) and pd.isna(text) else type(text).__name__
            raise ValueError(f"row {number} of text is {found}; give a string")
    return texts


SCORES = {"log_prob_nats": "double", "num_tokens": "long", "perplexity": "double"}

mlflow.models.set_model(LanguageModel())
