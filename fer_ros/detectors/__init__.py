"""Face detection networks: an image at its own size to boxes, scores and five points."""
