"""MergeVisualizationHook in small trainings: when it draws, what, and with which backend."""

import cv2
import pytest
from mmengine.evaluator import Evaluator
from mmengine.registry import VISBACKENDS
from mmengine.visualization import BaseVisBackend

from mmltm.errors import UserError
from tests.engine.small_runs import Images, Rising, classifier, runner


@VISBACKENDS.register_module()
class Pictures(BaseVisBackend):
    """Keeps the names, shapes and steps of pictures."""
    seen = []

    @property
    def experiment(self):
        return self

    def _init_env(self):
        pass

    def add_image(self, name, image, step=0, **kwargs):
        self.seen.append((name, image.shape[2], step))


def train(work_dir, visualizer=None, merging=True, **hook):
    hook = dict(type='mmltm.MergeVisualizationHook', **hook)
    loader = dict(batch_size=3, num_workers=0, collate_fn=dict(type='default_collate'), dataset=Images(8),
                  sampler=dict(type='DefaultSampler', shuffle=False))
    kwargs = dict(visualizer=dict(type='Visualizer', vis_backends=visualizer)) if visualizer else {}
    model = classifier() if merging else classifier(merger=dict(ratio=1.0))
    runner(work_dir, model, hooks=[hook], val_dataloader=loader, val_cfg=dict(), val_evaluator=Evaluator(Rising()),
           **kwargs).train()


def test_every_second_epoch_by_any_backend(tmp_path):
    Pictures.seen.clear()
    train(tmp_path, visualizer=[dict(type='Pictures', save_dir=str(tmp_path))], interval=2, num_images=3)
    assert Pictures.seen == [(f'merging_{image}', 3, epoch) for epoch in (1, 3) for image in range(3)]


def test_files(tmp_path):
    train(tmp_path, num_images=20, interval=5)
    files = sorted(path.name for path in tmp_path.glob('*/vis_data/vis_image/*'))
    assert files == [f'merging_{image}_1.png' for image in range(8)]  # there are no more images
    picture = cv2.imread(str(next(tmp_path.glob('*/vis_data/vis_image/merging_0_1.png'))))
    assert min(picture.shape[:2]) > 200


def test_iterations(tmp_path):
    Pictures.seen.clear()
    hook = dict(type='mmltm.MergeVisualizationHook', interval=4, num_images=1)
    visualizer = dict(type='Visualizer', vis_backends=[dict(type='Pictures', save_dir=str(tmp_path))])
    runner(tmp_path, hooks=[hook], iters=9, val=True, visualizer=visualizer).train()
    assert [step for _, _, step in Pictures.seen] == [3, 9]


def test_vanilla_model_is_refused(tmp_path):
    with pytest.raises(UserError, match='merges no tokens'):
        train(tmp_path, merging=False)


def test_arguments(tmp_path):
    with pytest.raises(ValueError, match='must be positive, got 0 and 4'):
        train(tmp_path, interval=0)
