"""Loss curves: which cells have one, and what is drawn."""

import cv2
import matplotlib.colors
import numpy as np
import pandas as pd
import pytest

from harness.plots import COLORS, draw_curves, with_curves


def row(label, losses, ratio=None, config='net'):
    return dict(label=label, losses=losses, ratio=ratio, config=config, epochs=len(losses), value=50.)


def test_one_epoch_is_no_curve():
    rows = pd.DataFrame(
        [row('vanilla', []), row('LTM', [2.]), row('LTM', [2., 1.]), dict(label='ToMe', error='impossible')])
    assert list(with_curves(rows).index) == [2]


@pytest.mark.parametrize('configs', [1, 2])
def test_lines_of_the_picture(tmp_path, configs):
    # Pooling, which did not train, is the first method of the table and keeps the first colour.
    rows = [row('AvgPool', [])] + [
        made for config in 'ab'[:configs] for made in (
            row('vanilla', [3., 2., 1.], config=config), row('LTM', [4., None, 2.], 0.5, config))]
    draw_curves(pd.DataFrame(rows), tmp_path / 'curves.png')
    picture = cv2.imread(str(tmp_path / 'curves.png'))
    assert picture.shape[0] == pytest.approx(configs * 4.2 * 120, abs=1)

    def pixels(color):
        bgr = 255 * np.array(matplotlib.colors.to_rgb(color))[::-1]
        return (abs(picture - bgr).max(-1) < 2).sum()

    assert pixels(COLORS[1]) > 20 and pixels('gray') > 20 and pixels(COLORS[0]) == 0
