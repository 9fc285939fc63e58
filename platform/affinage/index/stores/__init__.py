"""Vector stores behind one protocol: LanceDB, and a tiny exact one that tests compare with."""
