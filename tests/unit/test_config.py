"""Bad params.yaml: one clear message that names the place, the value and the remedy."""

from pathlib import Path

import pytest

from nextword.config import load_params

ROOT = Path(__file__).resolve().parents[2]
MINIMAL = "models:\n  lstm: {kind: lstm}\n"


def load(tmp_path: Path, text: str):
    file = tmp_path / "params.yaml"
    file.write_text(text)
    return load_params(file)


@pytest.mark.parametrize(
    "file", [ROOT / "params.yaml", *sorted((ROOT / "profiles").glob("*.yaml"))], ids=lambda f: f.name
)
def test_shipped_files_are_valid(file: Path) -> None:
    assert load_params(file).models


def test_yaml_1_2_numbers(tmp_path: Path) -> None:
    params = load(tmp_path, "models:\n  lstm: {kind: lstm, learning_rate: 1e-3}\n")
    assert params.models["lstm"].learning_rate == 0.001


def test_seeds_of_a_model_override_the_common_ones(tmp_path: Path) -> None:
    params = load(tmp_path, "train: {seeds: [5, 6]}\nmodels:\n  a: {kind: rnn}\n  b: {kind: gru, seeds: [1]}\n")
    assert (params.seeds_of("a"), params.seeds_of("b")) == ((5, 6), (1,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "trian: {}\n", r"trian: unknown key; did you mean 'train'\?"),
        (
            "models:\n  lstm: {kind: lstm, hiden_size: 3}\n",
            r"models\.lstm\.hiden_size: unknown key; did you mean 'hidden_size'",
        ),
        ("models:\n  lstm: {kind: lstm, hidden_size: big}\n", r"models\.lstm\.hidden_size: got 'big'"),
        ("models:\n  lstm: {kind: lstm, hidden_size: 0}\n", r"models\.lstm\.hidden_size: got 0"),
        ("models:\n  lstm: {kind: lstm, dropout: 1.5}\n", r"models\.lstm\.dropout: got 1\.5"),
        ("models:\n  lstm: {kind: lstmm}\n", r"models\.lstm: unknown kind 'lstmm'; allowed: gru"),
        ("models:\n  LSTM-1: {kind: lstm}\n", r"LSTM-1.*match pattern"),
        ("models: {}\n", "models: got {}"),
        ("train: {}\n", "models: missing"),
        (
            MINIMAL + "train: {batch_size: 20, devices_per_run: 3}\n",
            "batch_size 20 does not divide by 3 devices",
        ),
        (MINIMAL + "train: {random_bptt: true}\n", "optimizer adamw and bptt 35"),
        (MINIMAL + "published: {gpt: {source: a, test: 20.0}}\n", "published has gpt; models: lstm"),
        (MINIMAL + "train: {seeds: [1, 1]}\n", "seeds .* repeat"),
        (MINIMAL + "train: {seeds: []}\n", "at least one seed"),
        (MINIMAL + "train: {precision: half}\n", r"train\.precision: got 'half'"),
        (MINIMAL + "ngram: {max_order: 0}\n", r"ngram\.max_order: got 0"),
        (MINIMAL + "ngram: {smoothings: [kneser_nay]}\n", "unknown smoothing 'kneser_nay'; did you mean 'kneser_ney'"),
        (
            MINIMAL + "sparsity: {smoothings: [mlee]}\n",
            r"sparsity\.smoothings: unknown smoothing 'mlee'; did you mean",
        ),
        (MINIMAL + "window: {references: [lstmm]}\n", r"window\.references: unknown recurrent kind 'lstmm'"),
        (MINIMAL + "window: {seeds: [0, 0]}\n", "seeds .* repeat"),
        (MINIMAL + "memory: {tasks: []}\n", r"memory\.tasks: got \[\]"),
        (MINIMAL + "compare: {resamples: 1}\n", r"compare\.resamples: got 1"),
        (MINIMAL + "corpus: {source: text}\n", "source `text` needs `text.path`"),
        (MINIMAL + "corpus: {source: hub}\n", "needs `hub.name`"),
        (MINIMAL + "corpus: {sotu: {from_year: 2000, to_year: 1990}}\n", "from_year 2000 is after to_year 1990"),
        (MINIMAL + "tokenizer: {kind: bpe, vocab_size: null}\n", "needs a `vocab_size`"),
        ("models: [\n", "not valid YAML"),
        ("- a\n", "must hold a mapping"),
    ],
)
def test_errors_name_place_value_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(tmp_path, text)


def test_all_errors_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has 2 error\(s\)"):
        load(tmp_path, "models:\n  lstm: {kind: lstm, hidden_size: 0, dropout: 2}\n")


def test_missing_and_undecodable_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not found; run from the project folder"):
        load_params(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"models: \xe9\n")
    with pytest.raises(ValueError, match="not UTF-8 at byte 8"):
        load_params(tmp_path / "latin.yaml")
