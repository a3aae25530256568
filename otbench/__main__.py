"""`python -m otbench ...` is the same program as the console script."""

from otbench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
