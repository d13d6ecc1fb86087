"""Part 2: the learner's attention, forward and gradient, against its definition in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from floe.cluster.prove.gpu.cuda import counted_synchronisations
from floe.cluster.prove.gpu.findings import Line, Setting, at_most, not_here
from floe.learner.packing.packs import Branch, PrefixGroup, make_packs
from floe.learner.policy.merged_attention import merged_attention
from floe.learner.policy.shared_prefix_attention import shared_prefix_attention

HEAD_SIZES = (32, 64, 128)
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}  # relative to the norm; bfloat16 rounds to 2^-9
GRADIENT_FACTOR = 2.0  # a gradient is a product of two rounded ones

Group = tuple[int, tuple[int, ...]]  # tokens of the prefix, and of each of its completions
Tensors = list[torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    num_heads: int
    num_kv_heads: int
    num_branches: int
    num_prefix: int
    width: int
    packs: dict[str, tuple[Group, ...]]


QUICK = Sizes(
    num_heads=4,
    num_kv_heads=2,
    num_branches=3,
    num_prefix=33,
    width=9,
    packs={
        "a prefix alone": ((40, (9,)),),
        "one group": ((30, (9, 7, 8)),),
        "small groups": ((12, (5, 3)), (9, (4, 4, 2)), (14, (6,)), (7, (3, 5))),
    },
)
FULL = Sizes(
    num_heads=16,
    num_kv_heads=2,
    num_branches=16,
    num_prefix=1000,
    width=120,
    packs={
        "a prefix alone": ((1500, (300,)),),
        "one group": ((1000, tuple(range(60, 124, 4))),),
        "small groups": tuple((150 + 10 * n, (20, 30 + n, 25, 17)) for n in range(10)),
    },
)


def prove(setting: Setting) -> Iterator[Line]:
    device = torch.device(setting.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    sizes = FULL if device.type == "cuda" and not setting.is_quick else QUICK
    for size in HEAD_SIZES:
        if device.type == "cpu":  # elsewhere a large group of a pack has its own way
            yield from _merged(sizes, size, device, dtype)
        for name, groups in sizes.packs.items():
            yield from _packed(name, groups, sizes, size, device, dtype)
    if device.type != "cuda":
        yield not_here("waits for the device within a layer's attention", "the CPU has nothing to wait for")
        return
    for name, groups in sizes.packs.items():
        count = _synchronisations(groups, sizes, device, dtype)
        yield at_most(f"waits for the device within a layer's attention, {name}", count, 0)


def _merged(sizes: Sizes, size: int, device: torch.device, dtype: torch.dtype) -> Iterator[Line]:
    """Compare two merged softmaxes with one over both sets of keys."""
    many, width, prefix = sizes.num_branches, sizes.width, sizes.num_prefix
    own_keys, prefix_keys = (many, sizes.num_kv_heads, width, size), (sizes.num_kv_heads, prefix, size)
    shapes = [(many, sizes.num_heads, width, size), own_keys, own_keys, prefix_keys, prefix_keys]
    given = _random(shapes, device, dtype)
    positions = torch.arange(width, device=device)
    seen = torch.cat([torch.ones(width, prefix, dtype=torch.bool, device=device), positions[:, None] >= positions], 1)

    def way(
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        prefix_keys: torch.Tensor,
        prefix_values: torch.Tensor,
    ) -> torch.Tensor:
        return merged_attention(queries, keys, values, prefix_keys, prefix_values, size**-0.5)

    def expected(
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        prefix_keys: torch.Tensor,
        prefix_values: torch.Tensor,
    ) -> torch.Tensor:
        keys, values = (
            torch.cat([before[None].expand(many, -1, -1, -1), own], dim=2)
            for before, own in ((prefix_keys, keys), (prefix_values, values))
        )
        return _dense(queries, keys, values, seen)

    yield from _compared(f"merged attention, heads of {size}", way, expected, given)


def _packed(
    name: str, groups: Sequence[Group], sizes: Sizes, size: int, device: torch.device, dtype: torch.dtype
) -> Iterator[Line]:
    """Compare a pack's attention with one that masks every pair of its tokens."""
    given, way = _pack(groups, sizes, size, device, dtype)
    seen = seen_pairs(groups).to(device)

    def expected(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return _dense(query, key, value, seen).transpose(1, 2)

    yield from _compared(f"attention of a pack, {name}, heads of {size}", way, expected, given)


def _pack(
    groups: Sequence[Group], sizes: Sizes, size: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensors, Callable[..., torch.Tensor]]:
    """Return queries, keys and values of a pack [1, heads, T, size], and the learner's attention over them."""
    (pack,) = make_packs([_prefix_group(*group) for group in groups], 10**9)
    num_tokens = pack.input_ids.shape[1]
    pack = pack.to(device)
    index = pack.index  # made once, on the device, and no part of the attention's own work
    shapes = [(1, heads, num_tokens, size) for heads in (sizes.num_heads, sizes.num_kv_heads, sizes.num_kv_heads)]

    def way(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return shared_prefix_attention(None, query, key, value, None, layout=pack.layout, pack_index=index)[0]

    return _random(shapes, device, dtype), way


def seen_pairs(groups: Sequence[Group]) -> torch.Tensor:
    """Return [T, T] bool: which tokens of a pack each one sees."""
    places = [
        (number, branch)
        for number, (num_prefix, lengths) in enumerate(groups)
        for branch, length in enumerate((num_prefix, *lengths))
        for _ in range(length)
    ]
    group, branch = torch.tensor(places).T
    of_one_group = group[:, None] == group
    same_branch = branch[:, None] == branch
    seen: torch.Tensor = (of_one_group & (same_branch | (branch == 0))).tril()
    return seen


def _prefix_group(num_prefix: int, lengths: tuple[int, ...]) -> PrefixGroup:
    branches = tuple(Branch(token_ids=(1,) * length, weight=1.0) for length in lengths)
    return PrefixGroup(prefix_ids=(1,) * num_prefix, branches=branches)


def _dense(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return [N, H, Q, D] by the definition, with every score in memory."""
    per_kv = queries.shape[1] // keys.shape[1]
    keys, values = (one.repeat_interleave(per_kv, dim=1) for one in (keys, values))
    scores = torch.matmul(queries, keys.transpose(2, 3)) * queries.shape[-1] ** -0.5
    return torch.matmul(scores.masked_fill(~seen, float("-inf")).softmax(dim=-1), values)


def _compared(
    name: str, way: Callable[..., torch.Tensor], expected: Callable[..., torch.Tensor], given: Tensors
) -> Iterator[Line]:
    """Yield how far output and gradients are from the definition's, which uses the same numbers in float32."""
    limit = LIMITS[given[0].dtype]
    own, plain = (
        [one.detach().to(dtype).requires_grad_() for one in given] for dtype in (given[0].dtype, torch.float32)
    )
    found, wanted = way(*own), expected(*plain)
    yield at_most(f"{name}, forward", relative_difference([found], [wanted]), limit)
    weight = torch.linspace(-1, 1, found.numel(), device=found.device).reshape(found.shape)
    gradients = [
        torch.autograd.grad((out.float() * weight).sum(), tensors) for out, tensors in ((found, own), (wanted, plain))
    ]
    yield at_most(f"{name}, gradient", relative_difference(*gradients), limit * GRADIENT_FACTOR)


def relative_difference(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Return the largest over the tensors: the norm of the difference over the norm of what was expected."""
    pairs = [(one.detach().double(), other.detach().double()) for one, other in zip(found, expected, strict=True)]
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


def _random(shapes: Sequence[tuple[int, ...]], device: torch.device, dtype: torch.dtype) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


def _synchronisations(groups: Sequence[Group], sizes: Sizes, device: torch.device, dtype: torch.dtype) -> int:
    """Return the waits of a second forward and backward pass; the first one makes what is made once."""
    given, way = _pack(groups, sizes, 64, device, dtype)
    for one in given:
        one.requires_grad_()
    gradient = torch.ones_like(way(*given))
    way(*given).backward(gradient)
    with counted_synchronisations() as found:
        way(*given).backward(gradient)
    return found.count
