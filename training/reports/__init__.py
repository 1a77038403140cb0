"""Model cards, pages and plots."""
