import torch
from mmengine.config import ConfigDict

from mmltm.models.heads import SSDHead

GENERATOR = dict(type='mmdet.SSDAnchorGenerator', scale_major=False, strides=[32], ratios=[[2]], min_sizes=[32],
                 max_sizes=[64], input_size=64)
CODER = dict(type='mmdet.DeltaXYWHBBoxCoder', target_means=[0.] * 4, target_stds=[0.1, 0.1, 0.2, 0.2])
TEST_CFG = ConfigDict(nms_pre=10, nms=dict(type='nms', iou_threshold=0.5), min_bbox_size=0, score_thr=0.5,
                      max_per_img=5)


def test_prediction_is_the_softmax_at_the_anchor():
    """One anchor of four at one of four places is sure of class 1; the others see background."""
    head = SSDHead(num_classes=2, in_channels=(8, ), anchor_generator=GENERATOR, bbox_coder=CODER, test_cfg=TEST_CFG)
    scores = torch.zeros(1, 4, 3, 2, 2)
    scores[:, :, 2] = 5
    scores[0, 0, :, 1, 0] = torch.tensor([0., 3, 1])
    meta = dict(img_shape=(64, 64), scale_factor=(1., 1.))
    result, = head.predict_by_feat([scores.flatten(1, 2)], [torch.zeros(1, 16, 2, 2)], batch_img_metas=[meta])
    torch.testing.assert_close(result.scores, torch.tensor([0., 3, 1]).softmax(0)[1:2])
    assert result.labels.tolist() == [1]
    torch.testing.assert_close(result.bboxes, torch.tensor([[0., 32, 32, 64]]))
