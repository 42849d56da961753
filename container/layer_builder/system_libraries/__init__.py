"""Shared libraries that wheels leave to the system, taken out of its packages."""
