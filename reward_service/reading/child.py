"""The reader's own program: its forked children parse what models have written."""

from __future__ import annotations

import json
from functools import partial

from floe.cluster.contained.fork_server import Service, serve
from floe.reward_service.reading.query_reader import QueryReader
from floe.reward_service.reading.settings import ReaderSettings


def reader_service(settings_json: str) -> Service:
    settings = ReaderSettings(**json.loads(settings_json))
    return Service(
        make_answerer=partial(QueryReader, settings),
        max_process_bytes=settings.max_memory_bytes,
        max_file_bytes=0,  # it writes none
        recycle_bytes=settings.max_memory_bytes // 2,
    )


if __name__ == "__main__":
    serve(reader_service)
