"""What was asked for, read strictly."""
