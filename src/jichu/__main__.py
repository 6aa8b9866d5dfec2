"""`python -m jichu` is `jichu`."""

from jichu.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
