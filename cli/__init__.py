"""The command line: one thin file per command, that parses, calls one library function and renders.

Nothing heavier than click is imported before a command is known; `tests/cli` measures that.
"""
