"""Adapter versions that later steps may still ask for, as blob and manifest in a checkpoint, never as tensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from xxhash import xxh3_128_hexdigest

from floe.cluster.messages import AdapterManifest
from floe.configs.errors import UserError

FOLDER = "versions"
MANIFESTS = TypeAdapter(AdapterManifest)


def save_versions(folder: Path, manifests: Sequence[AdapterManifest], fetch: Callable[[Any], np.ndarray]) -> None:
    """Write `versions/v000011.safetensors` and `.json` of each; `fetch` gives the uint8 array behind a `blob_ref`.

    Raises OSError, and ValueError when a blob does not fit its manifest.
    """
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for manifest in manifests:
        blob = fetch(manifest.blob_ref)
        if not _is_blob_of(manifest, blob):
            raise ValueError(f"the store's adapter of version {manifest.version} is not the one that was exported")
        weights, about = _paths(folder, manifest.version)
        weights.write_bytes(blob.data)
        about.write_text(json.dumps(asdict(replace(manifest, blob_ref=None)), indent=2))


def read_versions(
    folder: Path, versions: Sequence[int], put_blob: Callable[[np.ndarray], Any]
) -> list[AdapterManifest]:
    """Return the manifests as exported, each blob in the store again under the reference that `put_blob` returns.

    Raises UserError when one is missing or is not what was saved.
    """
    return [_read(folder, version, put_blob) for version in versions]


def _read(folder: Path, version: int, put_blob: Callable[[np.ndarray], Any]) -> AdapterManifest:
    weights, about = _paths(folder, version)
    try:
        manifest = MANIFESTS.validate_json(about.read_bytes(), strict=True)
        blob = np.fromfile(weights, dtype=np.uint8)
    except FileNotFoundError as fault:
        raise _refusal(folder, version, f"{Path(fault.filename).name} is missing") from fault
    except ValueError as fault:
        raise _refusal(folder, version, f"{about.name} describes no adapter") from fault
    if manifest.version != version or not _is_blob_of(manifest, blob):
        raise _refusal(folder, version, f"{weights.name} is not what {about.name} describes")
    return replace(manifest, blob_ref=put_blob(blob))


def _is_blob_of(manifest: AdapterManifest, blob: np.ndarray) -> bool:
    return blob.nbytes == manifest.num_bytes and xxh3_128_hexdigest(blob.data) == manifest.digest


def _paths(folder: Path, version: int) -> tuple[Path, Path]:
    stem = folder / FOLDER / f"v{version:06d}"
    return stem.with_suffix(".safetensors"), stem.with_suffix(".json")


def _refusal(folder: Path, version: int, reason: str) -> UserError:
    return UserError(
        f"The checkpoint '{folder}' has no usable adapter of version {version} ({reason}): continue from another one."
    )
