"""Reasons why a whole group carries no reward."""

from __future__ import annotations


class GroupUnscorable(Exception):
    """The design can't do its work on the group, through no candidate's fault: the whole group carries no reward."""


class GoldUnusable(Exception):
    """No gold of the question is of use to the design: the whole group carries no reward."""
