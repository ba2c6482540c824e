"""What is kept of a data set beside its files: what was found in them, and decoded images."""
