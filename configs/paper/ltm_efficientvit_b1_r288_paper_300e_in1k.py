"""EfficientViT-B1 with the mask module as the LTM paper has it, ImageNet-1k at 288 pixels, 300 epochs.

    bash tools/dist_train.sh configs/paper/ltm_efficientvit_b1_r288_paper_300e_in1k.py 8 [--data-root DIR] [--amp]

All else as in the config that it builds on. What of the paper cannot be literal: docs/departures.md.
"""

_base_ = '../imagenet/ltm_efficientvit_b1_r288_300e_in1k.py'

model = dict(backbone=dict(preset='paper', merger=dict(img_size=288)))
paper = dict(model='EfficientViT-B1', shape=(288, 288))
