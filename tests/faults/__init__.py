"""The promises of docs/reliability.md, tried against faults on the embedded AWS with the real template."""
