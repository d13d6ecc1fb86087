"""Length-prefixed JSON over a stream socket; NUL and lone surrogates survive, and no code can travel."""

from __future__ import annotations

import json
import select
import socket
from typing import Any

Frame = dict[str, Any]

_LENGTH_BYTES = 8


def send_frame(stream: socket.socket, frame: Frame) -> None:
    """Send one frame; raises OSError when the other side is gone."""
    stream.sendall(encode_frame(frame))


def encode_frame(frame: Frame) -> bytes:
    """Return the bytes of one frame, its length first."""
    payload = json.dumps(frame).encode("ascii")
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload


def is_frame_waiting(stream: socket.socket) -> bool:
    """Return whether a frame, or the other side's end, can be received without waiting for its first byte."""
    return bool(select.select([stream], [], [], 0)[0])


def receive_frame(stream: socket.socket) -> Frame:
    """Wait for one frame and return it.

    Raises EOFError when the other side closed or died, and TimeoutError past the socket's own timeout.
    """
    num_bytes = int.from_bytes(_receive_exactly(stream, _LENGTH_BYTES), "big")
    frame: Frame = json.loads(_receive_exactly(stream, num_bytes))
    return frame


def _receive_exactly(stream: socket.socket, num_bytes: int) -> bytes:
    received = bytearray()
    while len(received) < num_bytes:
        try:
            piece = stream.recv(min(num_bytes - len(received), 1 << 20))
        except ConnectionError as error:
            raise EOFError("the other side of the pipe is gone") from error
        if not piece:
            raise EOFError("the other side of the pipe is gone")
        received += piece
    return bytes(received)
