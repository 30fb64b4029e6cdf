"""MobileViT-S with the mask module as the LTM paper has it, ImageNet-1k at 224 pixels, 300 epochs.

    bash tools/dist_train.sh configs/paper/ltm_mobilevit_s_paper_300e_in1k.py 8 [--data-root DIR] [--amp]

All else as in the config that it builds on. What of the paper cannot be literal: docs/departures.md.
"""

_base_ = '../imagenet/ltm_mobilevit_s_300e_in1k.py'

model = dict(backbone=dict(preset='paper'))
paper = dict(model='MobileViT-S', shape=(224, 224))
