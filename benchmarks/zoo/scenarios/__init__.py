"""The scenarios, a file a family; every file is found and imported by `registry`."""
