"""The options of `floe evaluate` that describe a model behind an endpoint."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from floe.configs.errors import UserError

# Option, field of EndpointPolicy, type, help.
_OPTIONS: tuple[tuple[str, str, Any, str], ...] = (
    ("--endpoint", "url", str, "Address of OpenAI's interface, mostly ending with /v1: asks a model there."),
    ("--model", "model", str, "Its name at the endpoint."),
    ("--endpoint-api", "api", str, "chat (default), or completions: the rendered prompt."),
    ("--endpoint-key-variable", "key_variable", str, "Variable with the key; OPENAI_API_KEY at api.openai.com."),
    ("--endpoint-parallel", "num_parallel", int, "Requests at a time; 4 if left out."),
    ("--endpoint-requests-per-minute", "requests_per_minute", float, "No limit if left out."),
    ("--endpoint-tokens-per-minute", "tokens_per_minute", float, "Prompt and longest answer; else no limit."),
    ("--endpoint-retries", "num_retries", int, "Further tries of a request; 6 if left out."),
    ("--endpoint-time-limit", "time_limit_s", float, "Seconds of one try; 300 if left out."),
    ("--endpoint-price-in", "price_in", float, "Price of a million prompt tokens."),
    ("--endpoint-price-out", "price_out", float, "Price of a million tokens of the answers."),
)


def with_endpoint_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options in place of its parameter `endpoint`, which gets the EndpointPolicy or None."""

    @wraps(command)
    def with_policy(*args: Any, **kwargs: Any) -> None:
        fields = {field: kwargs.pop(field) for _, field, _, _ in _OPTIONS}
        given = {field: value for field, value in fields.items() if value is not None}
        command(*args, **kwargs, endpoint=_policy(given))

    signature = inspect.signature(command, eval_str=True)
    own = [one for name, one in signature.parameters.items() if name != "endpoint"]
    options = [
        inspect.Parameter(
            field,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, typer.Option(name, help=about)],
        )
        for name, field, kind, about in _OPTIONS
    ]
    del with_policy.__wrapped__  # Typer would read that signature
    with_policy.__annotations__ = {one.name: one.annotation for one in [*own, *options]}
    with_policy.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return with_policy


def _policy(given: dict[str, Any]) -> Any:
    """Return the described policy, None without an endpoint. Raises UserError."""
    if "url" not in given:
        if given:
            option = next(name for name, field, _, _ in _OPTIONS if field in given)
            raise UserError(f"{option} belongs to a model behind an endpoint: give its address with --endpoint.")
        return None
    if "model" not in given:
        raise UserError("--endpoint needs the model's name there: give it with --model.")
    from floe.cluster.endpoints.policy import EndpointPolicy

    return EndpointPolicy.of_fields(given, "the options of --endpoint")
