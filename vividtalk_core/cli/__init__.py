"""The command line: it reads files and options, calls one function of the core, and writes files."""
