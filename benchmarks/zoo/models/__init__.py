"""The zoo's architectures: tiny, but of the shape of real ones."""
