"""How fast the kernels read memory."""
