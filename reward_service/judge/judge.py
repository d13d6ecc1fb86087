"""Asks a language model how near queries come to the right ones (openai: any endpoint of that interface)."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, cast

import httpx2 as httpx
import openai

from floe.configs.errors import UserError
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.bounded_cache import BoundedCache
from floe.reward_service.judge.bounded_http import BoundedTransport
from floe.reward_service.judge.judge_protocol import (
    MAX_REPLY_TOKENS,
    RESPONSE_FORMAT,
    RUBRIC_VERSION,
    BadReply,
    JudgedQuery,
    messages,
    pauses_s,
    score_of,
)
from floe.reward_service.unscorable import GroupUnscorable

MAX_REPLY_BYTES = 2**20
PASSING_STATUSES = (408, 409, 425, 429)  # and all codes from 500


class JudgeUnavailable(GroupUnscorable):
    """The judge gave no usable answer; the message names model, endpoint and what was wrong."""


class Judge:
    """Sends requests from one thread, at most `judge_num_parallel` at a time; several threads may use it."""

    def __init__(self, section: RewardSection) -> None:
        """Set up the client. Raises UserError where the key's variable is not set."""
        assert section.judge_url is not None
        self._section = section
        self._name = f"the judge {section.judge_model} at {section.judge_url}"
        self._secret = key = _key_in(section.judge_key_variable)
        self._headers = {} if key else {"Authorization": openai.omit}
        self._client = openai.AsyncOpenAI(
            base_url=section.judge_url,
            api_key=key or "none",
            timeout=section.judge_time_limit_s,
            http_client=httpx.AsyncClient(
                transport=BoundedTransport(MAX_REPLY_BYTES), timeout=section.judge_time_limit_s
            ),
            max_retries=0,  # answers that can't be read are asked for again too, within the same number
        )
        self._known: BoundedCache[bytes, float] = BoundedCache(section.judge_max_cached)  # each counts as one
        self._slots = asyncio.Semaphore(section.judge_num_parallel)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge", daemon=True)
        self._thread.start()

    def scores(self, queries: Sequence[JudgedQuery]) -> list[float]:
        """Return scores, 0 to 1, in order; equal queries are asked once. Raises JudgeUnavailable if one has none."""
        if self._loop.is_closed():
            raise JudgeUnavailable(f"{self._name} is asked nothing any more: its scorer was closed")
        distinct = list(dict.fromkeys(queries))
        found = asyncio.run_coroutine_threadsafe(self._ask_all(distinct), self._loop).result()
        by_query = dict(zip(distinct, found, strict=True))
        return [by_query[query] for query in queries]

    def close(self) -> None:
        """Give up what is still asked, and end connections and thread; a second call does nothing."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    async def _ask_all(self, queries: Sequence[JudgedQuery]) -> list[float]:
        asked = [asyncio.ensure_future(self._ask(query)) for query in queries]
        try:
            return list(await asyncio.gather(*asked))
        finally:
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, query: JudgedQuery) -> float:
        key = self._key(query)
        async with self._slots:
            known = self._known.get(key)
            if known is not None:
                return known
            score = await self._patiently(query)
        if self._section.judge_max_cached:
            self._known.put(key, score, 1)
        return score

    async def _patiently(self, query: JudgedQuery) -> float:
        """Ask until there is an answer, within the retries. Raises JudgeUnavailable."""
        pauses = list(pauses_s(self._section.judge_num_retries))
        for pause_s in (*pauses, None):
            try:
                return await self._once(query)
            except openai.APIStatusError as error:
                wrong = f"answers with status {error.status_code}: {error.message}"
                if error.status_code < 500 and error.status_code not in PASSING_STATUSES:
                    break
            except (TimeoutError, openai.APITimeoutError):
                wrong = f"gives no answer in {self._section.judge_time_limit_s:g} s"
            except openai.APIError as error:
                wrong = f"can't be reached ({error.__cause__ or error})"
            except BadReply as error:
                wrong = f"gives {error}"
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        if self._secret:
            wrong = wrong.replace(self._secret, "[the key]")  # an endpoint may repeat what it was sent
        raise JudgeUnavailable(f"{self._name} {' '.join(wrong.split())[:500]}")

    async def _once(self, query: JudgedQuery) -> float:
        # The client's own limit is per read, so an answer that arrives in drops would never end.
        async with asyncio.timeout(self._section.judge_time_limit_s):
            reply = await self._client.chat.completions.with_raw_response.create(
                model=self._section.judge_model,
                messages=cast(Any, messages(query)),
                temperature=0.0,
                max_tokens=MAX_REPLY_TOKENS,
                response_format=cast(Any, RESPONSE_FORMAT),
                extra_headers=cast(Any, self._headers),
            )
            return score_of(reply.text)

    def _key(self, query: JudgedQuery) -> bytes:
        parts = (RUBRIC_VERSION, self._section.judge_model, query)
        return blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=16).digest()


def _key_in(variable: str) -> str:
    """Return the key from its variable. Raises UserError."""
    if not variable:
        return ""
    key = os.environ.get(variable, "")
    if not key:
        raise UserError(
            f"reward.judge_key_variable is {variable}, but the process that asks the judge has no such variable: "
            "export it where floe is started (on a cluster, where each node's 'ray start' is), or set it to ''."
        )
    return key
