"""Which images train, validate and test: drawn, given, frozen; and how often test was opened."""
