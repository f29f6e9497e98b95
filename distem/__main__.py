"""`python -m distem` is the command line."""

from distem.cli import main

main(prog_name="distem")
