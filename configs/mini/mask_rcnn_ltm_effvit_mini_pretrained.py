r"""Mask R-CNN on LTM-EfficientViT-B0 on the mini set, from a classifier of its shapes.

    python tools/train.py configs/mini/mask_rcnn_ltm_effvit_mini_pretrained.py \
        --cfg-options model.backbone.pretrained=work_dirs/ltm_efficientvit_b0_mini/epoch_5.pth

Learning rate 0.002 for a total batch of 4, at 192 x 192 pixels.
"""

_base_ = './mask_rcnn_ltm_effvit_mini.py'

# Three quarters of the size, anchors too: 0.56 of the pixels, for the same AP50.
scale = (192, 192)
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2]['scale'] = test_pipeline[1]['scale'] = scale
# One sample a bin, and fewer proposals and RoIs, are enough here and halve the cost of the heads.
roi_extractor = dict(roi_layer=dict(sampling_ratio=1))
model = dict(
    backbone=dict(frozen_stages=1, norm_eval=False),
    rpn_head=dict(anchor_generator=dict(scales=[3])),
    roi_head=dict(bbox_roi_extractor=roi_extractor, mask_roi_extractor=roi_extractor),
    train_cfg=dict(rpn_proposal=dict(nms_pre=200, max_per_img=64), rcnn=dict(sampler=dict(num=32))))
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 8
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=max_epochs, end=max_epochs,
         convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=4)
optim_wrapper = dict(optimizer=dict(fused=True))
# Masks and their statistics stay the classifier's.
custom_hooks = [dict(type='mmltm.IBStatisticsHook', update_statistics=False), dict(type='mmltm.ChannelsLastHook')]
