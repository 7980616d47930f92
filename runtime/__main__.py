"""``python -m multires_edge.runtime``: the command line, where its script is not on the path."""

from multires_edge.runtime.cli import main

main(prog_name="multires-edge")
