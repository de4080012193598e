"""The ranks of one run, compared with one another."""
