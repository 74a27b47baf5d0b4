"""`python -m benchmarks`: every benchmark of this folder."""

from benchmarks import first_call, language, qp_vs_peers, sizes

if __name__ == "__main__":
    qp_vs_peers.main()
    language.main(15)
    first_call.main(7)
    sizes.main()
