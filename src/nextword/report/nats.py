"""The nats of every target, as evaluation saved them: what differences between models are tested on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextword.text.ids import EncodedCorpus, load_ids


@dataclass(frozen=True)
class SavedNats:
    """``reports/nats`` beside the ids that were scored."""

    folder: Path
    ids: Path

    @property
    def corpus(self) -> EncodedCorpus:
        """The ids."""
        return load_ids(self.ids)

    def neural(self, model: str, seed: int, split: str, way: str) -> NDArray[np.float64]:
        """(num_tokens,) of one seed; ``way``: stateful, reset, cache or dynamic."""
        return self._read(Path(model) / f"seed-{seed}.{split}.{way}.npy", f"evaluate@{model}")

    def ngram(self, name: str, split: str) -> NDArray[np.float64]:
        """(num_tokens,) of one n-gram model, which begins anew at each line."""
        return self._read(Path("ngram") / f"{name}.{split}.reset.npy", "ngram")

    def _read(self, path: Path, stage: str) -> NDArray[np.float64]:
        try:
            nats: NDArray[Any] = np.load(self.folder / path, allow_pickle=False)
        except FileNotFoundError:
            raise ValueError(f"{self.folder / path} not found; run `dvc repro {stage}`") from None
        return nats.astype(np.float64)
