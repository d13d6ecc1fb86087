"""The record of a version: what it learns and how fast it is, measured part by part: `make record`."""
