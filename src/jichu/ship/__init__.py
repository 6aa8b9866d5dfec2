"""What leaves the house: models served to other programs."""
