"""One trial: a configuration, the data it is trained on, and what comes out."""
