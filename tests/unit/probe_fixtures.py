"""Small encoded corpora with documents of our own making."""

from __future__ import annotations

from pathlib import Path

from nextword.config import CorpusParams, TokenizerParams
from nextword.text import EncodedCorpus, encode_corpus, load_ids, prepare_corpus


def encode(folder: Path, **documents: list[str]) -> EncodedCorpus:
    """Encode lists of documents named train, valid and test by words; each line of a document is a line of text."""
    for split, texts in documents.items():
        (folder / split).mkdir(parents=True)
        for number, text in enumerate(texts):
            (folder / split / f"{number:03}.txt").write_text(text + "\n", encoding="utf-8")
    own = {split: str(folder / split) for split in documents}
    source = CorpusParams.model_validate({"source": "text", "text": own, "allow_outside": True})
    prepare_corpus(source, folder / "corpus")
    encode_corpus(TokenizerParams(vocab_size=None), folder / "corpus", folder / "ids")
    return load_ids(folder / "ids")
