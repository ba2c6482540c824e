"""Searches replayed on known learning curves: any sampler x stop rule x allocation at an equal number of epochs."""
