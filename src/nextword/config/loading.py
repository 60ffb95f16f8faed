"""Reading ``params.yaml``: the only place that does, and every error it can give."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nextword.config.sections import ModelParams, Params

PARAMS_FILE = Path("params.yaml")


def load_params(path: str | os.PathLike[str] = PARAMS_FILE) -> Params:
    """Read and check ``params.yaml`` (YAML 1.2, as DVC reads it: ``1e-3`` is a number).

    Raises:
        ValueError: as :func:`read_params`, or a name that no room knows, or sizes that match no others.
    """
    return _complete(read_params(path), Path(path))


def read_params(path: str | os.PathLike[str] = PARAMS_FILE) -> Params:
    """The same without what only the models know, and so without torch: kinds are unchecked, sizes not solved.

    Raises:
        ValueError: the file is missing, is not YAML, or holds an unknown key or a value that is not allowed; the
            message names the place, the value, what is allowed and what to do.
    """
    path = Path(path)
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} not found; run from the project folder, or copy one of profiles/*.yaml") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path} must hold a mapping with the keys {', '.join(Params.model_fields)}")
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise ValueError("\n".join([f"{path} has {error.error_count()} error(s):", *_explain(error)])) from None


def _complete(params: Params, path: Path) -> Params:
    """Check the names that other rooms define (kinds of model, smoothings); solve the sizes that match others."""
    from nextword.models import check_model
    from nextword.models.cells import CELLS
    from nextword.models.sizes import matched_size
    from nextword.ngram import SMOOTHINGS

    for place, what, names, known in (
        ("ngram.smoothings", "smoothing", params.ngram.smoothings, SMOOTHINGS),
        ("sparsity.smoothings", "smoothing", params.sparsity.smoothings, SMOOTHINGS),
        ("window.references", "recurrent kind", params.window.references, CELLS),
    ):
        for name in names:
            if name not in known:
                allowed = f"{_nearest(name, known)} allowed: {', '.join(known)}"
                raise ValueError(f"{path}: {place}: unknown {what} {name!r};{allowed}")
    sizes: dict[str, ModelParams] = {}
    for name, model in params.models.items():
        try:
            check_model(model)
            if model.match is not None:
                sizes[name] = model.model_copy(update={"hidden_size": matched_size(model)})
        except ValueError as error:
            raise ValueError(f"{path}: models.{name}: {error}") from None
    return params.model_copy(update={"models": params.models | sizes}) if sizes else params


def _explain(error: ValidationError) -> Iterator[str]:
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"] if part != "[key]")
        if item["type"] == "extra_forbidden":
            known = _fields_at(item["loc"][:-1])
            key = str(item["loc"][-1])
            yield f"  {place}: unknown key;{_nearest(key, known)} allowed: {', '.join(known)}"
        elif item["type"] == "missing":
            yield f"  {place}: missing; add it"
        elif item["type"] == "value_error":
            yield f"  {place}: {item['ctx']['error']}"
        else:
            yield f"  {place}: got {item['input']!r}; {item['msg'][0].lower()}{item['msg'][1:]}"


def _fields_at(place: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Params
    for part in place:
        if part == "models":
            section = ModelParams
        elif part in section.model_fields:
            inner = section.model_fields[str(part)].annotation
            section = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else section
    return list(section.model_fields)


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" did you mean {close[0]!r}?" if close else ""
