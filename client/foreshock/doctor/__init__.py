"""What `foreshock doctor` looks at: whether a training that is started here would be seen."""
