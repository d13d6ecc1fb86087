"""Sends one request to an endpoint until it is answered (httpx2, the client that openai uses)."""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import time
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2 as httpx

from floe.cluster.endpoints.pace import Pace
from floe.cluster.endpoints.policy import EndpointPolicy
from floe.cluster.endpoints.protocol import PATHS, Ask, BadReply, Dialect, Reply, body_of, cut, message_of, reply_of
from floe.configs.errors import UserError
from floe.reward_service.judge.bounded_http import BoundedTransport

MAX_REPLY_BYTES = 2**24
PASSING_STATUSES = (408, 409, 425, 429)  # and all codes from 500
STATUSES_OF_A_QUESTION = (400, 413, 422)  # a prompt that is too long or filtered has one of them
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
LONGEST_ASKED_PAUSE_S = 600.0  # what a server may ask for; a longer one ends the evaluation
NUM_FIRST_RETRIES = 2  # of what no answer has come from yet, where nothing says that it would pass
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Unanswered(Exception):
    """No answer to one question; the message says why, and has no key in it."""


class Refused(Unanswered):
    """The endpoint refuses this request, whatever it may answer to others."""


class EndpointClient:
    """Asks for answers, one at a time for each caller; for the tasks of one event loop."""

    def __init__(self, endpoint: EndpointPolicy, key: str, has_answered: bool) -> None:
        """Make the client. `has_answered` says that answers of this endpoint are known from before."""
        self._endpoint = endpoint
        self._key = key
        self._forms_of_key = {key, json.dumps(key)[1:-1]} if key else set()
        self._pace = Pace(endpoint.requests_per_minute, endpoint.tokens_per_minute)
        self._dialect = Dialect()
        self.has_answered = has_answered
        self._http = httpx.AsyncClient(
            transport=BoundedTransport(MAX_REPLY_BYTES, _transport(endpoint.url)),
            timeout=endpoint.time_limit_s,
            follow_redirects=False,  # the key would go to another host
            headers={"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            trust_env=False,  # otherwise a .netrc file would be read for a password
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def answer(self, ask: Ask) -> Reply:
        """Return the answer. Raises Unanswered after all retries, and UserError for what no retry would change."""
        wrong = ""
        for number, pause_s in enumerate((*_pauses_s(self._endpoint.num_retries), None)):
            may_pass = self.has_answered or number < NUM_FIRST_RETRIES
            try:
                response = await self._sent(ask)
                if response.is_success:
                    reply = reply_of(response.content, self._endpoint.api)
                    self.has_answered = True
                    return self._without_key(reply)
                wrong = self._said(f"answers with status {response.status_code}: {message_of(response.content)}")
                self._raise_unless_passing(response, wrong)
                may_pass = True
                pause_s = self._held(response.headers, pause_s, wrong)
            except (TimeoutError, httpx.TimeoutException):
                wrong = f"gives no answer in {self._endpoint.time_limit_s:g} s"
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last for a host's name
                wrong = self._said(f"can't be reached ({_cause(error)})")
            except BadReply as error:
                wrong = self._said(f"gives {error}")
            if pause_s is None or not may_pass:
                break
            await asyncio.sleep(pause_s)
        raise Unanswered(f"{self._endpoint.name} {wrong}")

    async def _sent(self, ask: Ask) -> httpx.Response:
        """Return the response, once the endpoint takes the settings that are sent. Raises TimeoutError, HTTPError."""
        url = self._endpoint.url + PATHS[self._endpoint.api]
        while True:
            dialect = self._dialect
            await self._pace.turn(ask.num_prompt_tokens + ask.max_new_tokens)
            # The client's own limit is per read, so an answer that arrives in drops would never end.
            async with asyncio.timeout(self._endpoint.time_limit_s):
                body = body_of(ask, self._endpoint.model, dialect)
                response = await self._http.post(url, content=body)
            adapted = dialect.adapted(response.content) if response.status_code in STATUSES_OF_A_QUESTION else None
            if adapted is None:
                return response
            if self._dialect == dialect:  # otherwise another task has been told the same
                self._dialect = adapted

    def _without_key(self, reply: Reply) -> Reply:
        return Reply(
            text=reply.text.replace(self._key, "[the key]") if self._key else reply.text,
            is_truncated=reply.is_truncated,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            without=self._dialect.without,
        )

    def _said(self, text: str) -> str:
        """Return what the endpoint said, in one short line without the key, which it may repeat."""
        for form in self._forms_of_key:
            text = text.replace(form, "[the key]")
        return cut(" ".join(text.split()))

    def _raise_unless_passing(self, response: httpx.Response, wrong: str) -> None:
        """Raise UserError or Refused for a status that another try would not change."""
        status = response.status_code
        if status in PASSING_STATUSES or status >= 500:
            return
        name = self._endpoint.name
        if status in STATUSES_OF_A_QUESTION:
            raise Refused(f"{name} {wrong}")
        if status in (401, 403):
            remedy = (
                f"export a key that it takes in {self._endpoint.variable}"
                if self._key
                else "name the variable that holds a key with --endpoint-key-variable"
            )
        elif status in (404, 405):
            remedy = "correct --endpoint, which mostly ends with /v1, --model or --endpoint-api"
        elif response.is_redirect:
            target = self._said(response.headers.get("Location", "another address"))
            remedy = f"it sends on to {target}, where the key is not sent: give that address's beginning as --endpoint"
        else:
            remedy = "correct --endpoint and --model"
        raise UserError(f"{name} {wrong.rstrip('.')}: {remedy}.")

    def _held(self, headers: Mapping[str, str], pause_s: float | None, wrong: str) -> float | None:
        """Return the pause before the next try. What the server asks for holds all requests. Raises UserError."""
        asked_s = _asked_pause_s(headers)
        if asked_s is None:
            return pause_s
        if asked_s > LONGEST_ASKED_PAUSE_S:
            raise UserError(
                f"{self._endpoint.name} {wrong.rstrip('.')}, and asks for a pause of {asked_s:,.0f} s: give the same "
                "command again after it, the answers so far are kept."
            )
        self._pace.hold(asked_s)
        return None if pause_s is None else max(pause_s, asked_s)


def _pauses_s(num_retries: int) -> Iterator[float]:
    """Return the seconds to pause before each retry; with chance, so that requests don't come back all at once."""
    for number in range(num_retries):
        yield min(FIRST_PAUSE_S * 2**number, LONGEST_PAUSE_S) * random.uniform(0.75, 1.25)


def _asked_pause_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date; None without one that can be read."""
    given = headers.get("Retry-After", "").strip()
    if not given:
        return None
    try:
        asked_s = float(given)
    except ValueError:
        try:
            asked_s = email.utils.parsedate_to_datetime(given).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, asked_s) if asked_s == asked_s else None


def _transport(url: str) -> httpx.AsyncBaseTransport:
    """Return the way to an address: through the proxy that the environment names, never to this machine itself.

    Raises UserError for a proxy that can't be used, whose address is not shown, since it may hold a password.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = None if host in _LOOPBACK or proxy_bypass(host) else getproxies().get(parts.scheme)
    try:
        return httpx.AsyncHTTPTransport(proxy=proxy, limits=httpx.Limits(max_connections=None))
    except (ValueError, ImportError, httpx.InvalidURL) as fault:
        raise UserError(
            f"The proxy that the environment names for {parts.scheme} can't be used ({type(fault).__name__}): correct "
            f"{parts.scheme}_proxy, or add {host} to no_proxy."
        ) from None


def _cause(error: BaseException) -> str:
    found = error.__cause__ or error
    return str(found) or str(error) or type(error).__name__
