"""Whether what a model is asked, and what it answers, are still what it was made for."""
