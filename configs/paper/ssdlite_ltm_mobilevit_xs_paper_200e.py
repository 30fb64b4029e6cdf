"""SSDLite, MobileViT-XS with the mask module as the LTM paper has it, COCO at 320 x 320 pixels, 200 epochs.

    bash tools/dist_train.sh configs/paper/ssdlite_ltm_mobilevit_xs_paper_200e.py 8

All else as in the config that it builds on. What of the paper cannot be literal: docs/departures.md.
"""

_base_ = '../ssdlite_ltm_mobilevit_xs_200e.py'

model = dict(backbone=dict(preset='paper', merger=dict(type='LTM', img_size=320)))
paper = dict(model='SSDLite MobileViT-XS', shape=(320, 320))
