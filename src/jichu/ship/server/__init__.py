"""Runs behind HTTP: predictions, embeddings, explanations and texts, as the OpenAI clients speak it."""
