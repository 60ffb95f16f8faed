"""Hidden sizes solved so that two models have as many parameters."""

from pathlib import Path

import pytest

from nextword.config import ModelParams, SizeParams, load_params
from nextword.models import build_model
from nextword.models.cells import CELLS
from nextword.models.sizes import TOLERANCE, hidden_parameters, matched_size, nearest_size


def match(kind: str, size: int, **settings: int | str | bool) -> ModelParams:
    return ModelParams(kind=kind, match=SizeParams(kind="lstm", hidden_size=size), **settings)


@pytest.mark.parametrize("kind", sorted(CELLS))
@pytest.mark.parametrize("embedding", [40, 250, 300])
@pytest.mark.parametrize("tied", [True, False])
def test_the_matched_model_has_as_many_parameters(kind: str, embedding: int, tied: bool) -> None:
    params = match(kind, 250, embedding_size=embedding, tie_weights=tied)
    own = hidden_parameters(params.model_copy(update={"hidden_size": matched_size(params)}))
    lstm = hidden_parameters(ModelParams(kind="lstm", hidden_size=250, embedding_size=embedding, tie_weights=tied))
    assert abs(own - lstm) <= TOLERANCE * lstm


@pytest.mark.parametrize(("layers", "connection"), [(1, "plain"), (2, "plain"), (3, "residual"), (2, "highway")])
def test_no_other_size_is_nearer(layers: int, connection: str) -> None:
    params = ModelParams(
        kind="gru", num_layers=layers, connection=connection, embedding_size=48,
        match=SizeParams(kind="lstm", hidden_size=90, num_layers=layers),
    )  # fmt: skip
    wanted = hidden_parameters(params.model_copy(update={"kind": "lstm", "hidden_size": 90}))

    def off(size: int) -> int:
        return abs(hidden_parameters(params.model_copy(update={"hidden_size": size})) - wanted)

    found = matched_size(params)
    assert off(found) == min(off(size) for size in range(1, 160))


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        (128, {"embedding_size": 96, "bidirectional": True}),
        (100, {"embedding_size": 300, "bidirectional": True}),
        (64, {"embedding_size": 200, "num_layers": 2, "connection": "dense"}),
    ],
)
def test_the_projection_is_as_wide_as_what_it_reads(size: int, settings: dict[str, int | str | bool]) -> None:
    layers = int(settings.get("num_layers", 1))
    params = ModelParams.model_validate(
        {"kind": "lstm", "match": SizeParams(kind="gru", hidden_size=size, num_layers=layers), **settings}
    )

    def built(kind: str, hidden_size: int) -> int:
        model = build_model(params.model_copy(update={"kind": kind, "hidden_size": hidden_size}), 50, 0)
        outside = {id(model.embedding.weight), *map(id, model.output.parameters())}
        return sum(p.numel() for p in model.parameters() if id(p) not in outside)

    wanted, found = built("gru", size), matched_size(params)
    off = {near: abs(built("lstm", near) - wanted) for near in (found - 1, found, found + 1)}
    assert off[found] == min(off.values()) <= TOLERANCE * wanted


def test_the_nearest_size_is_found_where_none_matches() -> None:
    params = ModelParams(kind="lstm", embedding_size=4, tie_weights=False)
    counts = {size: 4 * size * (4 + size + 1) for size in (26, 27, 28)}
    for wanted, nearest in ((counts[27] + 100, 27), (counts[28] - 100, 28), (1, 1)):
        assert nearest_size(params, wanted) == nearest
    tied = ModelParams(kind="lstm", embedding_size=40)  # at 40 there is no projection
    assert nearest_size(tied, 14_561) == 39


def test_counted_parameters_are_those_of_the_built_model() -> None:
    params = ModelParams(kind="gru", hidden_size=30, embedding_size=20)
    model = build_model(params, 50, 0)
    outside = {id(model.embedding.weight), *map(id, model.output.parameters())}
    assert hidden_parameters(params) == sum(p.numel() for p in model.parameters() if id(p) not in outside)


def test_a_size_that_cannot_be_matched_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no hidden size has the .* parameters of match lstm 1 within 1%"):
        matched_size(match("gru", 1, embedding_size=7))


def test_loading_solves_the_size(tmp_path: Path) -> None:
    text = "models:\n  small: {kind: lstm, match: {kind: gru, hidden_size: 128}, embedding_size: 128%s}\n"
    path = tmp_path / "params.yaml"
    path.write_text(text % "")
    assert load_params(path).models["small"].hidden_size == 96
    path.write_text(text % ", hidden_size: 96")
    assert load_params(path).models["small"].hidden_size == 96
    path.write_text(text % ", hidden_size: 97")
    with pytest.raises(ValueError, match=r"models\.small: match gives hidden_size 96, not 97; leave hidden_size out"):
        load_params(path)
