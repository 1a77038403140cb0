"""Results as JSON, CSV, plots and HTML."""
