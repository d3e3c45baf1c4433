"""`python -m hierfed` is the command line."""

from hierfed.cli import command

command()
