"""A trained graph matching network as a folder: weights in safetensors, everything else in JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from floe.configs.errors import UserError
from floe.configs.files.paths import RELATIVE_RULE
from floe.reward_service.graph.encoding import Encoder, Vocabulary
from floe.reward_service.graph.network import GraphMatchingNetwork, NetworkShape

WEIGHTS_FILE, ABOUT_FILE = "model.safetensors", "graph_network.json"
FORMAT = 1  # version of graphs, their encoding and the network together: weights of another version mean nothing here


def write_network(
    folder: Path, network: GraphMatchingNetwork, vocabulary: Vocabulary, about: Mapping[str, Any]
) -> None:
    """Write into an existing folder. `about` is whatever else is known of the training, for JSON."""
    weights = save_tensors({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    (folder / WEIGHTS_FILE).write_bytes(weights)
    content = {
        "format": FORMAT,
        "shape": asdict(network.shape),
        "vocabulary": asdict(vocabulary),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        **about,
    }
    (folder / ABOUT_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_network(folder: Path) -> tuple[GraphMatchingNetwork, Encoder]:
    """Return the network, ready to use. Raises UserError for a folder that is incomplete or of another format."""
    remedy = "give a folder that floe train-graph-reward of this version wrote"
    try:
        about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
        weights = (folder / WEIGHTS_FILE).read_bytes()
    except OSError as error:
        raise UserError(
            f"reward.graph_network {folder} can't be read ({error.strerror}): {remedy} ({RELATIVE_RULE})."
        ) from None
    except ValueError:
        raise UserError(f"{folder / ABOUT_FILE} is no JSON: {remedy}.") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise UserError(f"reward.graph_network {folder} is not of format {FORMAT}: {remedy}.")
    if about.get("weights_sha256") != hashlib.sha256(weights).hexdigest():
        raise UserError(f"{folder / WEIGHTS_FILE} is not what {ABOUT_FILE} describes, it is damaged: {remedy}.")
    try:
        shape, vocabulary = _shape(about["shape"]), _vocabulary(about["vocabulary"])
        network = GraphMatchingNetwork(shape)
        network.load_state_dict(load_tensors(weights), strict=True)
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"reward.graph_network {folder} does not fit together ({reason}): {remedy}.") from None
    return network.eval(), Encoder(vocabulary)


def _shape(values: Mapping[str, Any]) -> NetworkShape:
    if set(values) != {field.name for field in fields(NetworkShape)}:
        raise ValueError("its shape has other fields")
    if not all(isinstance(value, int) and 0 < value <= 1 << 20 for value in values.values()):
        raise ValueError("its shape holds no sensible numbers")
    return NetworkShape(**values)


def _vocabulary(values: Mapping[str, Any]) -> Vocabulary:
    return Vocabulary(kinds=tuple(map(str, values["kinds"])), roles=tuple(map(str, values["roles"])))
