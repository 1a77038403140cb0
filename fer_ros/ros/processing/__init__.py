"""Frame processing of the active node."""
