"""Weights that training leaves as they are, on the device or on the host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from floe.configs.errors import UserError

ALIGNMENT_BYTES = 256  # start of each tensor in the buffer


class FrozenWeights:
    """Moves the frozen weights between device and host; nothing changes them, so the host's copy is made only once.

    The copy is one buffer, pinned where there is a GPU so that the way back overlaps with other work. It is pinned in
    place, because PyTorch's own allocator of pinned memory rounds each block up to a power of two.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        """Take the parameters of `module` that need no gradient, which are on the device."""
        self._parameters = [one for one in module.parameters() if not one.requires_grad]
        self._tensors = list(_distinct(self._parameters))
        self._devices = [one.device for one in self._tensors]
        buffer = torch.empty(buffer_bytes(self._tensors), dtype=torch.uint8, device="cpu")
        if torch.cuda.is_available():
            pin(buffer)
        self._host = list(_copies(self._tensors, buffer))
        of_place = {_place(tensor): number for number, tensor in enumerate(self._tensors)}
        self._numbers = [of_place[_place(one)] for one in self._parameters]
        self._tensors.clear()  # they would keep the device's memory

    def to_host(self) -> None:
        self._set(self._host)

    def to_device(self) -> None:
        self._set([one.to(device, non_blocking=True) for one, device in zip(self._host, self._devices, strict=True)])

    def _set(self, tensors: list[torch.Tensor]) -> None:
        for parameter, number in zip(self._parameters, self._numbers, strict=True):
            parameter.data = tensors[number]


def buffer_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Return the size of one buffer for the tensors."""
    return sum(_aligned_bytes(one) for one in tensors)


def pin(buffer: torch.Tensor) -> None:
    """Lock a buffer of the host's memory in place until the process ends, so that a GPU can read it directly.

    Raises UserError where the host doesn't allow that.
    """
    fault = int(torch.cuda.cudart().cudaHostRegister(buffer.data_ptr(), buffer.numel(), 0))
    if fault:
        raise UserError(
            f"The learner can't lock {buffer.numel() / 2**30:.1f} GiB of the host's memory for its base weights (CUDA "
            f"error {fault}): free host memory, or set cluster.colocation to engine_sleeps."
        )


def give_back_cached_blocks() -> None:
    """Give back PyTorch's cached blocks. Otherwise its cache keeps memory that the engine needs."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _place(tensor: torch.Tensor) -> tuple[int, torch.dtype, torch.Size]:
    """Return a key that is equal for parameters that share their memory."""
    return tensor.data_ptr(), tensor.dtype, tensor.shape


def _distinct(parameters: Iterable[torch.nn.Parameter]) -> Iterator[torch.Tensor]:
    """Yield each of the tensors once, however many parameters share it."""
    yield from {_place(one): one.detach() for one in parameters}.values()


def _aligned_bytes(tensor: torch.Tensor) -> int:
    return -(-tensor.numel() * tensor.element_size() // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _copies(tensors: Iterable[torch.Tensor], buffer: torch.Tensor) -> Iterator[torch.Tensor]:
    start = 0
    for tensor in tensors:
        num_bytes = tensor.numel() * tensor.element_size()
        yield buffer[start : start + num_bytes].view(tensor.dtype).view(tensor.shape).copy_(tensor)
        start += _aligned_bytes(tensor)
