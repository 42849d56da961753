"""The watch: what is known against the packages of published layers, and what a rebuild would change."""
