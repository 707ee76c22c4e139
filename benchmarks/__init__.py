"""What proves the speed and the quality claims; `make bench` runs it."""
