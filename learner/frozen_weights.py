"""The weights that training leaves as they are, on the device or on the host."""

from __future__ import annotations

import torch


class FrozenWeights:
    """Since nothing writes to them, the host's copy is made once and the way there costs no copying."""

    def __init__(self, module: torch.nn.Module) -> None:
        """Takes the parameters of `module` that need no gradient, which are on the device."""
        self._parameters = [one for one in module.parameters() if not one.requires_grad]
        self._devices = [one.device for one in self._parameters]
        self._host = [_on_host(one.detach()) for one in self._parameters]

    def to_host(self) -> None:
        for parameter, host in zip(self._parameters, self._host, strict=True):
            parameter.data = host

    def to_device(self) -> None:
        for parameter, host, device in zip(self._parameters, self._host, self._devices, strict=True):
            parameter.data = host.to(device, non_blocking=True)


def give_back_cached_blocks() -> None:
    """Else PyTorch keeps for itself what the engine is to have."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    """Pinned where there is a GPU, so that the way back overlaps with other work."""
    host = tensor.to("cpu")
    return host.pin_memory() if torch.cuda.is_available() else host
