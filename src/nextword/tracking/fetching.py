"""A logged model of ours, back as the folders it was made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nextword.tracking.store import ensure_store, find_store, quiet

if TYPE_CHECKING:
    from mlflow import MlflowClient

SCHEME = "models:/"
_FORMS = "give models:/NAME/VERSION, models:/NAME@ALIAS or models:/NAME/latest"


def fetch_model(uri: str, scratch: Path) -> tuple[Path, Path]:
    """Copy a model out of the store.

    Args:
        uri: ``models:/NAME/VERSION``, ``models:/NAME@ALIAS``, ``models:/NAME/latest`` or ``models:/ID``.
        scratch: the folder to copy to; needed as long as the model is.

    Returns:
        the folder of the model and the folder of its tokenizer.

    Raises:
        ValueError: the URI has another form, there is no store, no such model, or not one that this project logged.
    """
    if urlsplit(uri).netloc:
        raise ValueError(f"{uri} names no model, for its two slashes; {_FORMS}")
    store = find_store()
    if store.database is not None and not store.database.exists():
        raise ValueError(
            f"{uri}: no MLflow store in {store.database.parent}; call this in the project folder, "
            "or set MLFLOW_TRACKING_URI"
        )
    ensure_store()  # a project folder that was moved: its paths follow
    client = store.client()
    with quiet():
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException
        from mlflow.models import Model

        try:
            location = _location(client, uri)
            place = Path(download_artifacts(artifact_uri=location, dst_path=str(scratch), tracking_uri=store.uri))
            artifacts = Model.load(str(place)).flavors["python_function"]["artifacts"]
            model, ids = (place / artifacts[name]["path"] for name in ("model", "ids"))
        except MlflowException as error:
            raise ValueError(f"{uri} is not to be had from {store.uri}: {error.message}; {_FORMS}") from error
        except KeyError:
            raise ValueError(
                f"{uri} is no model of this project (no network and tokenizer in it); give one that "
                "`dvc repro` registered"
            ) from None
    return model, ids


def _location(client: MlflowClient, uri: str) -> str:
    """Where the artifacts of a ``models:/`` URI lie.

    ``download_artifacts`` would look such a URI up in MLflow's global store, whatever it is told.
    """
    from mlflow.store.artifact.utils.models import get_model_name_and_version

    if logged := re.fullmatch(f"{SCHEME}([^/@]+)", uri):
        return str(client.get_logged_model(logged[1]).artifact_location)
    name, version = get_model_name_and_version(client, uri)  # type: ignore[no-untyped-call, unused-ignore]
    source = str(client.get_model_version_download_uri(name, version))
    return _location(client, source) if source.startswith(SCHEME) else source
