"""The code file of the logged models ("models from code"): MLflow runs it when a model is loaded.

Input: a table with the column ``text``. Params: ``mode`` is ``score`` or ``continue``; the others
are those of :class:`nextword.serving.Sampling`. Output: a table with a row a text: ``log_prob_nats``, ``num_tokens``
and ``perplexity`` (of a bidirectional model their pseudo counterparts: :class:`nextword.serving.Score`), or
``continuation`` (which a bidirectional model refuses).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
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
            ValueError: ``mode`` is unknown, or a number is out of range.
        """
        given = dict(params or {})
        mode = given.pop("mode", "score")
        # {"text": ["one", "two"]} reaches us as one row that holds a list.
        texts = [str(text) for text in model_input["text"].explode()]
        if mode == "score":
            scores = self.model.score(texts)
            return pd.DataFrame([(s.log_prob_nats, s.num_tokens, s.perplexity) for s in scores], columns=list(SCORES))
        if mode == "continue":
            return pd.DataFrame({"continuation": self.model.continuations(texts, Sampling(**given))})
        raise ValueError(f"mode is {mode!r}; allowed: 'score', 'continue'")


SCORES = {"log_prob_nats": "double", "num_tokens": "long", "perplexity": "double"}

mlflow.models.set_model(LanguageModel())
