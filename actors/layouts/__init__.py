"""Layouts of published data sets, a file each: where their questions and databases lie."""
