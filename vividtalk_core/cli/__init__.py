"""The command line: files and words in, one verb of the core, files out."""
