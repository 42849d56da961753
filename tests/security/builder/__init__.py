"""Attacks on the builder, by who may upload and by who owns a package on the index."""
