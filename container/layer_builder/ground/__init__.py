"""What every room stands on: errors, targets, limits, words, files, interpreters, confinement."""
