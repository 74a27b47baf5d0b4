"""`python -m benchmarks`: every benchmark of this folder."""

from benchmarks import language, qp_vs_peers

if __name__ == "__main__":
    qp_vs_peers.main()
    language.main(15)
