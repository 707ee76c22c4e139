"""`python -m mmpr_builder` is `mmpr`."""

from mmpr_builder.cli import main

main()
