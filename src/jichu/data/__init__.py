"""The data engine: from files to seeded, resumable batches of tensors."""
