"""`python -m mirage.cli`: the `mirage` command of this interpreter."""

from mirage.cli.entry import main

main()
