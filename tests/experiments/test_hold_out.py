"""tools/experiments/hold_out.py: which images move, and what is refused."""

import sys

import pytest

import hold_out
from mmltm.errors import UserError


def test_last_images_of_every_class_move_from_training_to_test(tmp_path, monkeypatch):
    for split, count in (('train', 5), ('val', 2)):
        for name in ('cat', 'dog'):
            (tmp_path / 'data' / split / name).mkdir(parents=True)
            for index in range(count):
                (tmp_path / 'data' / split / name / f'{split}{index}.jpg').write_text(f'{split} {name} {index}')
    monkeypatch.setattr(sys, 'argv', ['', str(tmp_path / 'data'), str(tmp_path / 'out'), '--per-class', '2'])
    hold_out.main()
    files = {path.relative_to(tmp_path / 'out').as_posix(): path for path in (tmp_path / 'out').rglob('*.jpg')}
    assert sorted(files) == sorted(
        f'{split}/{name}/{image}.jpg' for name in ('cat', 'dog')
        for split, images in (('train', ('train0', 'train1', 'train2')), ('val', ('train3', 'train4', 'val0', 'val1')))
        for image in images)
    assert files['val/dog/train4.jpg'].read_text() == 'train dog 4'

    with pytest.raises(UserError, match='is there already'):
        hold_out.main()
    monkeypatch.setattr(sys, 'argv', ['', str(tmp_path / 'data'), str(tmp_path / 'new'), '--per-class', '5'])
    with pytest.raises(UserError, match='must keep images to train on'):
        hold_out.main()
    assert not (tmp_path / 'new').exists()
