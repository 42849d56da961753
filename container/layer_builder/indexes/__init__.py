"""Where packages come from: indexes, what may be reached and as whom."""
