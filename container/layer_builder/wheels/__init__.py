"""The files that were chosen: fetched, checked, looked into."""
