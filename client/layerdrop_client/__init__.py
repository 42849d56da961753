"""The `layerdrop` command: files go into a stack's bucket, and what became of them is told."""

__version__ = "0.1.0"
