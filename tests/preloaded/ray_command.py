"""The `ray` command, whose nodes start preloaded workers."""

import sys

from tests.preloaded.ray_workers import preload_workers

if __name__ == "__main__":
    preload_workers()
    from ray.scripts.scripts import main

    sys.exit(main())
