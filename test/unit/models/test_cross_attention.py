"""Windows and their attention, against the definition written out in loops."""

import math

import pytest
import torch

from fer_ros.models.cross_attention import (
    CrossAttentionBlock,
    WindowCrossAttention,
    relative_position_index,
    window_partition,
    window_reverse,
)


@pytest.mark.parametrize(
    ("batch", "height", "width", "side", "heads"),
    [(0, 7, 7, 7, 1), (1, 7, 7, 7, 1), (2, 28, 14, 7, 2), (3, 4, 6, 2, 3)],
)
def test_reverse_undoes_partition(batch, height, width, side, heads):
    maps = torch.randn(batch, height, width, 6)
    windows = window_partition(maps, heads, side)
    assert windows.shape == (batch * height * width // side**2, heads, side**2, 6 // heads)
    assert torch.equal(window_reverse(windows, height, width, side), maps)


def test_a_window_holds_neighbors():
    rows, columns = torch.meshgrid(torch.arange(14), torch.arange(14), indexing="ij")
    windows = window_partition(torch.stack([rows, columns], dim=-1)[None], heads=1)
    assert windows[1, 0, 0].tolist() == [0, 7]
    assert windows[2, 0, 8].tolist() == [8, 1]


def test_a_head_holds_adjacent_channels():
    windows = window_partition(torch.arange(6).expand(1, 7, 7, 6), heads=2)
    assert windows[0, :, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_relative_index_depends_on_the_offset_alone():
    side = 3
    index = relative_position_index(side)
    offsets = {}
    for a in range(side**2):
        for b in range(side**2):
            offset = (a // side - b // side, a % side - b % side)
            offsets.setdefault(offset, set()).add(int(index[a, b]))
    assert all(len(rows) == 1 for rows in offsets.values())
    assert len({row for rows in offsets.values() for row in rows}) == (2 * side - 1) ** 2


def by_the_book(attention, queries, image):
    """Attention of one window, one head and one query at a time."""
    places, dim = queries.shape[1:]
    head_dim = dim // attention.heads
    keys, values = attention.keys_values(image).chunk(2, dim=-1)
    out, weights = (
        torch.zeros_like(queries),
        torch.zeros(len(queries), attention.heads, places, places),
    )
    for window in range(len(queries)):
        for head in range(attention.heads):
            part = slice(head * head_dim, (head + 1) * head_dim)
            for i in range(places):
                scores = torch.stack(
                    [
                        queries[window, i, part] @ keys[window, j, part] / math.sqrt(head_dim)
                        + attention.bias[attention.index[i, j], head]
                        for j in range(places)
                    ]
                )
                weights[window, head, i] = scores.softmax(dim=0)
                out[window, i, part] = weights[window, head, i] @ values[window, :, part]
    return attention.project(out), weights


@torch.no_grad()
def test_attention_equals_the_definition():
    torch.manual_seed(0)
    attention = WindowCrossAttention(dim=8, heads=2)
    queries, image = torch.randn(2, 2, 49, 8)
    expected, weights = by_the_book(attention, queries, image)
    maps = queries.view(2, 7, 7, 8), image.view(2, 7, 7, 8)
    torch.testing.assert_close(attention(*maps), expected.view(2, 7, 7, 8))
    torch.testing.assert_close(attention.weights(*maps), weights)


@torch.no_grad()
@pytest.mark.parametrize(("landmark_dim", "depends"), [(None, False), (6, True)])
def test_only_landmark_queries_depend_on_the_landmarks(landmark_dim, depends):
    torch.manual_seed(0)
    block = CrossAttentionBlock(8, 2, landmark_dim).eval()
    image, landmarks = torch.randn(1, 14, 14, 8), torch.randn(1, 14, 14, 6)
    same = torch.equal(block(image, landmarks), block(image, landmarks + 1))
    assert same != depends


@torch.no_grad()
def test_attention_stays_inside_its_window():
    torch.manual_seed(0)
    block = CrossAttentionBlock(8, 2, 6).eval()
    image, landmarks = torch.randn(1, 14, 14, 8), torch.randn(1, 14, 14, 6)
    moved = image.clone()
    moved[:, :7, :7] += torch.randn(7, 7, 8)
    changed = (block(moved, landmarks) != block(image, landmarks)).any(dim=-1)[0]
    assert changed[:7, :7].all()
    assert not changed[7:].any()
    assert not changed[:, 7:].any()


@torch.no_grad()
@pytest.mark.parametrize("landmark_dim", [None, 6])
def test_a_block_equals_the_definition(landmark_dim):
    """Window by window: queries of the landmarks, or of the image without them; then the MLP."""
    torch.manual_seed(0)
    block = CrossAttentionBlock(8, 2, landmark_dim).eval()
    image, landmarks = torch.randn(1, 14, 7, 8), torch.randn(1, 14, 7, 6)
    asking = image if landmark_dim is None else landmarks
    after, attention = torch.zeros_like(image), torch.zeros(1, 14, 7)
    for top in (0, 7):
        rows = slice(top, top + 7)
        queries = block.query_norm(block.query(asking[:, rows])).reshape(1, 49, 8)
        keys = block.image_norm(image[:, rows]).reshape(1, 49, 8)
        attended, weights = by_the_book(block.attention, queries, keys)
        x = image[:, rows] + 0.1 * attended.reshape(1, 7, 7, 8)
        after[:, rows] = x + 0.1 * block.mlp(block.mlp_norm(x))
        attention[:, rows] = 49 * weights.mean(dim=(1, 2)).reshape(1, 7, 7)
    torch.testing.assert_close(block(image, landmarks), after)
    torch.testing.assert_close(block.attention_map(image, landmarks), attention)


@torch.no_grad()
def test_attention_map_adds_up():
    block = CrossAttentionBlock(8, 2, 6).eval()
    attention = block.attention_map(torch.randn(3, 14, 14, 8), torch.randn(3, 14, 14, 6))
    assert attention.shape == (3, 14, 14)
    torch.testing.assert_close(attention.mean(dim=(1, 2)), torch.ones(3))
