"""A run's model and its data looked at by hand: which training rows an input is like, what would change an answer,
where rows lie, and held-out rows with what is said of them."""
