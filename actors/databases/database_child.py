"""The program that reads users' databases: its forked children open them."""

from __future__ import annotations

import json
from functools import partial

from floe.actors.databases.database_reader import DatabaseReader
from floe.actors.databases.reading_settings import ReadingSettings
from floe.cluster.contained.fork_server import Service, serve

BESIDE_SQLITE_BYTES = 2**29  # values as Python holds and sends them


def reading_service(settings_json: str) -> Service:
    settings = ReadingSettings(**json.loads(settings_json))
    return Service(
        make_answerer=partial(DatabaseReader, settings),
        max_process_bytes=settings.max_memory_bytes + BESIDE_SQLITE_BYTES,
        max_file_bytes=0,  # the child writes no database
        recycle_bytes=settings.max_memory_bytes // 2,
    )


if __name__ == "__main__":
    serve(reading_service)
