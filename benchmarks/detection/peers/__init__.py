"""What others use, from their published rules, each as a method that raises alerts."""
