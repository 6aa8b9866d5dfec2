"""Kinds of table files, each read to an Arrow table and the records that could not be read."""
