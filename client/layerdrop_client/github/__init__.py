"""What GitHub shows of a sync, or of what a pull request would make: pure but for `api` and `base`."""
