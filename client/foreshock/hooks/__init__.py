"""Where in the training loop a tensor is measured, and what keeps that from doing harm."""
