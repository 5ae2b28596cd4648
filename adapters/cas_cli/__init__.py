"""The command line: `cas`."""
