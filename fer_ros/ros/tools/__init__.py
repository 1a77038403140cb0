"""Demo, soak test, benchmark and media publisher."""
