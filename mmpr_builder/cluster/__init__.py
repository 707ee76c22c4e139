"""Ray: only this folder imports it, inside the functions that need it."""
