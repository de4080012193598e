"""Runs that people already have, as frames: one file a format, none of which knows another."""
