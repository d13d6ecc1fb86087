"""Lists every question template."""

from __future__ import annotations

from actors.demo.groups import GROUPS_AND_SETS
from actors.demo.joined import JOINS
from actors.demo.lists import EASY

TEMPLATES = tuple(template for shape in EASY + GROUPS_AND_SETS + JOINS for template in shape.templates())
