"""`python -m mmpr_builder.cli` is `mmpr`."""

from mmpr_builder.cli import main

main()
