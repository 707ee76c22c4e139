"""Files: where they lie, what may be read, how records become columns."""
