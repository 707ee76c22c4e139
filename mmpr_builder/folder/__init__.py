"""A build's folder: manifest, lock, status, parts of rollouts."""
