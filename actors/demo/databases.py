"""Lists the demo databases."""

from __future__ import annotations

from actors.demo.leisure import BISTRO, FOOTBALL, MUSIC
from actors.demo.services import BIKES, CLINIC, LIBRARY

DATABASES = (LIBRARY, CLINIC, BIKES, BISTRO, FOOTBALL, MUSIC)
