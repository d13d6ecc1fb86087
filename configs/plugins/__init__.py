"""Plug-ins: parts of a run that a user writes, named by a dotted path or an entry point, with arguments."""
