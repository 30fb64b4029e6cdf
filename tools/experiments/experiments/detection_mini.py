"""Mask R-CNN on EfficientViT-B0 trained from scratch on the mini set: vanilla, average pooling and LTM.

All for as many epochs, at the ratio of the quickstart, whose model this is: maps come back to their size behind every
stage, and masks learn from the detector's loss alone. The data, drawn in seconds:
python tools/dataset_converters/make_mini_coco.py generate data/mini_coco
"""

config = 'mini/mask_rcnn_ltm_effvit_mini'
metric, batch_sizes = 'coco/segm_mAP_50', (1, )
epochs = 24
overrides = {'param_scheduler.1.T_max': epochs, 'param_scheduler.1.end': epochs}

methods = [dict(label=label, merger=dict(type=label), ratios=(0.7, ), epochs=(epochs, ))
           for label in ('AvgPool', 'LTM')]

ltm, pooling = (dict(label=label, ratio=0.7, epochs=epochs) for label in ('LTM', 'AvgPool'))
claims = [
    dict(text='LTM finds objects at least as well as vanilla', ours=ltm, theirs=dict(label='vanilla', epochs=epochs)),
    dict(text='LTM finds objects better than average pooling', ours=ltm, theirs=pooling),
]
