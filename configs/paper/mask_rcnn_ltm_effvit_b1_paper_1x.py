"""Mask R-CNN, EfficientViT-B1 with the mask module as the LTM paper has it, COCO instance segmentation, 12 epochs.

    bash tools/dist_train.sh configs/paper/mask_rcnn_ltm_effvit_b1_paper_1x.py 8

Masks have the grids of 224 pixels, those of the backbone's training, and are resampled to the map. All else as in the
config that it builds on. What of the paper cannot be literal: docs/departures.md.
"""

_base_ = '../mask_rcnn_ltm_effvit_b1_1x.py'

model = dict(backbone=dict(preset='paper'))
paper = dict(model='Mask R-CNN EfficientViT-B1', shape=(800, 1344))
