"""`python -m floe`: the command line."""

from floe.cluster.cli import main

main()
