"""Runs that stop sending, and the stage that notices."""
