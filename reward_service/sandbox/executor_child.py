"""The executor's own program: its forked children run the SQL."""

from __future__ import annotations

import json
from functools import partial

from floe.cluster.contained.fork_server import Service, serve
from floe.reward_service.sandbox.executor import Executor
from floe.reward_service.sandbox.executor_settings import ExecutorSettings


def executor_service(settings_json: str) -> Service:
    settings = ExecutorSettings(**json.loads(settings_json))
    return Service(
        make_answerer=partial(Executor, settings),
        max_process_bytes=settings.max_process_bytes,
        max_file_bytes=settings.max_memory_bytes,
        recycle_bytes=settings.recycle_bytes,
    )


if __name__ == "__main__":
    serve(executor_service)
