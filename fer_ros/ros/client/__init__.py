"""Client library for behavior nodes."""
