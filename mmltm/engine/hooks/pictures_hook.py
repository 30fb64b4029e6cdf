"""Draws the predictions of a test, in sub-folders as the images are."""

import numpy as np
from mmengine.hooks import Hook
from mmengine.visualization import Visualizer

from mmltm.datasets import LoadImage
from mmltm.registry import HOOKS
from mmltm.visualization.picture_paths import PicturePaths


@HOOKS.register_module()
class PicturesHook(Hook):
    """Draws each image of a test, deep ones too; OpenMMLab's hooks overwrite files of equal names.

    For mmdet and mmseg ground truth (left) and predictions (right).

    Args:
        folder (str, optional): Where files go. Without it there are none.
        options: For the visualizer: ``show``, ``wait_time``, mmdet's ``pred_score_thr``.
    """

    def __init__(self, folder: str | None, **options) -> None:
        self._folder, self._options, self._load = folder, options, LoadImage()

    def before_test(self, runner) -> None:
        dataset = runner.test_dataloader.dataset
        images = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
        self._paths = PicturePaths(self._folder, images) if self._folder else lambda path: None

    def after_test_iter(self, runner, batch_idx: int, data_batch: dict, outputs: list) -> None:
        visualizer = Visualizer.get_current_instance()
        for sample in outputs:
            image = np.ascontiguousarray(self._load(dict(img_path=sample.img_path))['img'][..., ::-1])
            options = dict(self._options, out_file=self._paths(sample.img_path))
            if hasattr(visualizer, 'visualize_cls'):
                visualizer.visualize_cls(image, sample, **options)
            else:
                visualizer.add_datasample(sample.img_path, image, data_sample=sample, **options)
