"""From requirements, or a lock, to one file for each package."""
