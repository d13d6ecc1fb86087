"""An HTTP transport whose answers are of bounded size, whatever the other side sends (httpx2, which openai uses)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2 as httpx


class BoundedTransport(httpx.AsyncBaseTransport):
    """Ends a response of more than `max_bytes`, or with a compressed body, by httpx.ReadError."""

    def __init__(self, max_bytes: int, inner: httpx.AsyncBaseTransport | None = None) -> None:
        self._max_bytes = max_bytes
        self._inner = inner or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["Accept-Encoding"] = "identity"
        response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            await response.aclose()  # a few of its bytes may stand for gigabytes
            raise httpx.ReadError("the answer is compressed, which was not asked for", request=request)
        response.stream = _BoundedStream(response.stream, self._max_bytes, request)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, max_bytes: int, request: httpx.Request) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        num_bytes = 0
        async for piece in self._stream:
            num_bytes += len(piece)
            if num_bytes > self._max_bytes:
                raise httpx.ReadError(f"the answer has more than {self._max_bytes:,} bytes", request=self._request)
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
