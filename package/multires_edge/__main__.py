"""``python -m multires_edge``: the command line, where its script is not on the path."""

from multires_edge.cli.main import main

main(prog_name="multires-edge")
