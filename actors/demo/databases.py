"""Lists the demo databases."""

from __future__ import annotations

from floe.actors.demo.leisure import BISTRO, FOOTBALL, MUSIC
from floe.actors.demo.services import BIKES, CLINIC, LIBRARY

DATABASES = (LIBRARY, CLINIC, BIKES, BISTRO, FOOTBALL, MUSIC)
