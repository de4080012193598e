"""Chooses every threshold without a fold of runs, and scores the detectors on that fold."""
