"""Builds an AWS Lambda layer out of Python requirements: wheels merged into one reproducible zip."""

__version__ = "0.1.0"
