"""`python -m affinage.cli` is `affinage`."""

from affinage.cli.main import main

main()
