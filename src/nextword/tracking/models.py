"""Log a trained model to MLflow as pyfunc and register it."""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextword.serving import TOKENIZER_FILES, Sampling

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

PACKAGE = Path(__file__).resolve().parents[1]
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pydantic", "ruamel.yaml", "safetensors", "tokenizers", "torch", "tqdm")


def log_pyfunc(
    client: MlflowClient,
    origin: tuple[str, str],
    tags: dict[str, str],
    name: str,
    folders: Mapping[str, Path],
    *,
    register: bool,
    again: bool = False,
) -> str:
    """Save the model folder, the tokenizer and this package's code as one MLflow model.

    The model is whole: it loads where ``nextword`` is not installed.

    Args:
        client: of the store.
        origin: experiment and run that the model comes from (ids).
        tags: of the logged model and of its version; what tells it from others of the run.
        name: of the model, and of its line in the registry.
        folders: ``model``, a seed of a neural model or an n-gram model, and ``ids``, with the tokenizer's files.
        register: whether to make a version in the registry.
        again: whether it may be there already, whole or in part, from a call that failed.

    Returns:
        ``models:/NAME/VERSION``, or ``models:/ID`` where it is not registered.
    """
    from mlflow.entities import LoggedModelOutput

    experiment_id, run_id = origin
    logged = _find(client, experiment_id, tags) if again else None
    if logged is None:
        logged = client.create_logged_model(experiment_id, name, run_id, tags, model_type="language model")
    model_id = str(logged.model_id)
    if logged.status != "READY":
        with tempfile.TemporaryDirectory() as scratch:
            client.log_model_artifacts(model_id, str(_save(logged, run_id, folders, Path(scratch))))
        client.finalize_logged_model(model_id, "READY")
    outputs = client.get_run(run_id).outputs if again else None
    if outputs is None or model_id not in {output.model_id for output in outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    if not register:
        return f"models:/{model_id}"
    # A database looks `models:/ID` up at MLflow's global URI, which is not set here; a server has its own.
    source = f"models:/{model_id}" if client.tracking_uri.startswith("http") else logged.artifact_location
    return _register(client, name, source, (run_id, model_id), tags)


def _find(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> LoggedModel | None:
    where = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return next(iter(client.search_logged_models([experiment_id], where)), None)


def _save(logged: LoggedModel, run_id: str, folders: Mapping[str, Path], scratch: Path) -> Path:
    """The MLflow model as a folder."""
    from mlflow import pyfunc
    from mlflow.models import Model

    place, model_id, model = scratch / "model", str(logged.model_id), folders["model"]
    pyfunc.save_model(
        path=str(place),
        python_model=str(Path(__file__).with_name("pyfunc.py")),
        artifacts={
            "model": str(_copy(model, model_files(model), scratch / "trained")),
            "ids": str(_copy(folders["ids"], TOKENIZER_FILES, scratch / "ids")),
        },
        code_paths=[str(_copy_code(scratch / "code" / PACKAGE.name))],
        pip_requirements=[f"{package}=={_version(package)}" for package in REQUIREMENTS],
        signature=_signature(),
        mlflow_model=Model(logged.artifact_location, run_id, model_uuid=model_id, model_id=model_id),
    )
    for cache in place.rglob("__pycache__"):
        shutil.rmtree(cache, ignore_errors=True)
    return place


def _register(client: MlflowClient, name: str, source: str, origin: tuple[str, str], tags: Mapping[str, str]) -> str:
    from mlflow.exceptions import MlflowException

    run_id, model_id = origin
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = (version for version in client.search_model_versions(f"run_id = '{run_id}'") if version.name == name)
    version = next((version for version in found if dict(version.tags) == dict(tags)), None)
    if version is None:
        version = client.create_model_version(name, source, run_id, tags=dict(tags), model_id=model_id)
    return f"models:/{name}/{version.version}"


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    sampling = Sampling()
    outputs = [
        ("double", "log_prob_nats"),
        ("long", "num_tokens"),
        ("double", "perplexity"),
        ("string", "continuation"),
    ]
    return ModelSignature(
        Schema([ColSpec("string", "text")]),
        Schema([ColSpec(kind, column, required=False) for kind, column in outputs]),
        ParamSchema(
            [
                ParamSpec("mode", "string", "score"),
                ParamSpec("max_tokens", "long", sampling.max_tokens),
                ParamSpec("temperature", "double", sampling.temperature),
                ParamSpec("top_k", "long", sampling.top_k),
                ParamSpec("top_p", "double", sampling.top_p),
                ParamSpec("seed", "long", sampling.seed),
            ]
        ),
    )


def model_files(model: Path) -> list[str]:
    """Files of a model folder; an ARPA file is for other programs, and larger than the model."""
    return [path.name for path in model.iterdir() if path.is_file() and path.suffix != ".arpa"]


def _copy(source: Path, files: Sequence[str], target: Path) -> Path:
    target.mkdir(parents=True)
    for file in files:
        shutil.copyfile(source / file, target / file)
    return target


def _copy_code(target: Path) -> Path:
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def _version(package: str) -> str:
    return importlib.metadata.version(package).partition("+")[0]
