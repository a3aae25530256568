"""`python bench.py ...` from a checkout is the same program as the console script `otbench`."""

from otbench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
