"""What a watched training loop costs over a bare one, and where the cost goes."""
