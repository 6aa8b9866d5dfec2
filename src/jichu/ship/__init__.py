"""From a run to what other programs use."""
