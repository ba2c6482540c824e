"""What a search space is made of: parameters, composition, YAML, and how a space is found by its name."""
