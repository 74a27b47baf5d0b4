"""`python -m benchmarks`: every benchmark of this folder."""

from benchmarks.qp_vs_qpth import main

if __name__ == "__main__":
    main()
