"""The catalogue: every layer of the stack, in one document and on one page."""
