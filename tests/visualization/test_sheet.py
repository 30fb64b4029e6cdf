"""Contact sheets: what they are made of, and that they show what they should."""

import numpy as np
import pytest
import torch

from mmltm.visualization import Sheet, View, draw_sheets
from mmltm.visualization.sheet import _borders, to_picture

IMAGE = np.full((40, 60, 3), 90, np.uint8)


def block(groups=False, token=0):
    weights = np.zeros((4, 6), np.float32)
    weights[1, 2] = 0.8
    labels = np.arange(24).reshape(4, 6) // 2
    return View('mergers.0', (3, 4), token, weights, labels if groups else None)


@pytest.mark.parametrize('views, models, groups', [(1, 1, False), (1, 2, True), (3, 1, True), (3, 2, False)])
def test_pictures_grow_with_what_they_show(views, models, groups):
    sheets = [Sheet('model', IMAGE, [block(groups)] * views) for _ in range(models)]
    picture = draw_sheets(sheets)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    one = draw_sheets([Sheet('model', IMAGE, [block()])])
    assert picture.size >= one.size


def test_models_with_different_blocks_and_images():
    picture = draw_sheets([Sheet('a', IMAGE, [block()] * 2), Sheet('b', IMAGE.transpose(1, 0, 2), [block()])])
    assert picture.std() > 10


def test_another_place_is_another_picture():
    moved = block()._replace(weights=np.roll(block().weights, 2))
    one, other = (draw_sheets([Sheet('a', IMAGE, [view])]) for view in (block(), moved))
    assert one.shape == other.shape and (one != other).any()


def test_borders_of_a_cell_are_its_four_sides():
    mask = np.zeros((4, 4), bool)
    mask[1, 2] = True
    lines = {tuple(map(tuple, line)) for line in _borders(mask).tolist()}
    assert lines == {((2, 1), (3, 1)), ((2, 2), (3, 2)), ((2, 1), (2, 2)), ((3, 1), (3, 2))}


def test_picture_is_rgb_and_padded_at_the_right_and_below():
    inputs = torch.stack([torch.full((2, 3), value) for value in (300., 20., 10.)])  # BGR
    picture = to_picture(inputs, (4, 4))
    assert picture.shape == (4, 4, 3)
    assert picture[0, 0].tolist() == [10, 20, 255]
    assert not picture[2:].any() and not picture[:, 3:].any()
