"""Lists every question template."""

from __future__ import annotations

from floe.actors.demo.groups import GROUPS_AND_SETS
from floe.actors.demo.joined import JOINS
from floe.actors.demo.lists import EASY

TEMPLATES = tuple(template for shape in EASY + GROUPS_AND_SETS + JOINS for template in shape.templates())
