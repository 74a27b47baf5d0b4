"""`python -m benchmarks`: every benchmark of this folder."""

from benchmarks import archive, first_call, killers, language, qp_vs_peers, sizes

if __name__ == "__main__":
    qp_vs_peers.main()
    killers.main()
    archive.main()
    language.main(15)
    first_call.main(7)
    sizes.main()
