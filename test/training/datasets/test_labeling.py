"""Views of faces for the teachers."""

import numpy as np
import pytest

from training.datasets.labeling import photo_view, tight_view


@pytest.mark.parametrize("size", [(48, 48), (300, 200)])
def test_maps_transform_images_to_square_views(size):
    image = np.zeros((size[1], size[0], 3), np.uint8)
    to_crop = np.array([[0.5, 0.1, 3], [-0.1, 0.5, 7]], np.float32)
    for seen, to_view in (tight_view(image), photo_view(image, to_crop)):
        assert seen.shape == (384, 384, 3)
        assert to_view.shape == (2, 3)
    middle = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2, 1])
    np.testing.assert_allclose(tight_view(image)[1] @ middle, [191.5, 191.5], atol=1)
