"""Limits on requests and tokens per minute: requests start at even distances, and all wait when a server says so."""

from __future__ import annotations

import asyncio


class Pace:
    """Says when the next request may start; for the tasks of one event loop."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        """Take the limits; None is no limit."""
        self._s_per_request = 0.0 if requests_per_minute is None else 60.0 / requests_per_minute
        self._s_per_token = 0.0 if tokens_per_minute is None else 60.0 / tokens_per_minute
        self._next_s = 0.0  # by the loop's clock, when the next request may start
        self._held_until_s = 0.0

    async def turn(self, num_tokens: int) -> None:
        """Wait for the turn of a request of so many tokens, those of its longest answer included."""
        now_s = asyncio.get_running_loop().time()
        start_s = max(now_s, self._next_s)
        self._next_s = start_s + max(self._s_per_request, num_tokens * self._s_per_token)
        await asyncio.sleep(start_s - now_s)
        while (left_s := self._held_until_s - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(left_s)

    def hold(self, pause_s: float) -> None:
        """Let no request start for so long."""
        self._held_until_s = max(self._held_until_s, asyncio.get_running_loop().time() + pause_s)
