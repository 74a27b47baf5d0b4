"""`python -m benchmarks`: every benchmark of this folder."""

from benchmarks import language, qp_vs_qpth

if __name__ == "__main__":
    qp_vs_qpth.main()
    language.main(15)
