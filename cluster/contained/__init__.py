"""Processes that may be killed at work: a fork server, its one child, and the handle that the parent has on both."""
