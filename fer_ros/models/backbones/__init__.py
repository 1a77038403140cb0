"""Image backbones: a face image to feature maps at three scales."""
