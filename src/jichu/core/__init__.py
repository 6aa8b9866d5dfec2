"""Configuration, errors, names, devices, randomness, files, the run folder, progress."""
