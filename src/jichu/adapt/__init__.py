"""Which parameters learn, and how fast."""
