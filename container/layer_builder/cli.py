"""The command line."""

import argparse


def main() -> int:
    """Run the builder; the return value is the exit status."""
    argparse.ArgumentParser(prog="layer-builder").parse_args()
    return 0
