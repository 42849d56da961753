"""The catalogue: what is known of each layer, as an index and as a page."""
