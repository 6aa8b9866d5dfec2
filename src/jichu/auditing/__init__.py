"""Predict once into a table with a row for each record; everything said of a model comes from it."""
