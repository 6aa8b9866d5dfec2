"""What would change an answer: `finding` asks, by the search in `search`, about one file for each kind of input."""

from .finding import Counterfactual, counterfactual

__all__ = ["Counterfactual", "counterfactual"]
