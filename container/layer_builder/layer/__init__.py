"""The layer itself: what goes where, which file wins, the zip, its bytecode."""
