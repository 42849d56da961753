"""The commands: one module each, with the one function that tells what it does."""
