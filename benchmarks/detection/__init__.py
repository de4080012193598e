"""Scores the detectors, and what others use, over recorded runs: `make bench-detection`."""
