"""Has Ray start its workers with the Python that forks them, while FLOE_TEST_PYTHON is in the environment."""

import importlib.abc
import importlib.util
import sys
from types import ModuleType
from typing import Any

from tests.preloaded.python import preloaded_python

SERVICES = "ray._private.services"


class WorkerPython(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Changes `sys.executable` for the call that writes it into the raylet's command; Ray is not loaded for it."""

    found: Any = None

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        if fullname != SERVICES:
            return None
        sys.meta_path.remove(self)
        self.found = importlib.util.find_spec(fullname)
        return importlib.util.spec_from_loader(fullname, self, origin=self.found.origin)

    def create_module(self, spec: Any) -> ModuleType:
        return importlib.util.module_from_spec(self.found)

    def exec_module(self, module: Any) -> None:
        self.found.loader.exec_module(module)
        real = module.start_raylet

        def start_raylet(*arguments: Any, **options: Any) -> Any:
            before, sys.executable = sys.executable, preloaded_python()
            try:
                return real(*arguments, **options)
            finally:
                sys.executable = before

        module.start_raylet = start_raylet


def preload_workers() -> None:
    sys.meta_path.insert(0, WorkerPython())
