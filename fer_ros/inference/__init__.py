"""Model files and the runtimes that compute them."""
