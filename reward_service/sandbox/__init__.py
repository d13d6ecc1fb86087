"""Contained execution of SQL that a model wrote."""
