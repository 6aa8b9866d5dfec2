"""Cases that try to break what reads: `targets` makes and tries them, `cases` judges what came of one.

A case is (target, seed, number) and the same on every machine; `tests/test_fuzz.py` tries a fixed
thousand, `benchmarks/fuzz.py` a hundred thousand.
"""
