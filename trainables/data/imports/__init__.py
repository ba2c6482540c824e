"""Formats that keep outlines and objects instead of masks: read, and drawn as masks by `segsweep init`."""
