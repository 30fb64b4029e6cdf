"""SSDLite at 320 x 320 pixels for 200 epochs of COCO, as in Table 3 of the LTM paper; the backbone is left to say.

MobileViT's protocol, with the figures of ml-cvnets' `config/detection/ssd_coco/mobilevit.yaml`: levels of strides 16 to
256 and the mean of the last, anchors, augmentation, optimiser, averaged weights. The rest is mmdet's SSDLite on
MobileNetV2: losses (cross-entropy with three hard negatives an object, smooth L1) and the layers of the head, which
predicts classes and boxes by convolutions of their own. Total batch 128: 8 GPUs x 16 images.
"""

_base_ = 'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py'

channels = (512, 256, 256, 128, 128, 64)
layers = dict(norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU'))
# From 0.1 to 1.05 of the image's side.
sizes = [32, 82.7, 133.3, 184, 234.7, 285.3, 336]
model = dict(
    neck=dict(_delete_=True, type='mmltm.SSDLiteNeck', out_channels=channels, **layers),
    bbox_head=dict(
        type='mmltm.SSDHead',
        in_channels=channels,
        init_cfg=dict(_delete_=True, type='Xavier', layer='Conv2d', distribution='uniform'),
        anchor_generator=dict(
            ratios=[[2, 3], [2, 3], [2, 3], [2, 3], [2, 3], [2]], min_sizes=sizes[:-1], max_sizes=sizes[1:]),
        **layers),
    test_cfg=dict(nms_pre=400, nms=dict(iou_threshold=0.5), score_thr=0.01))

# Images are not made smaller within a frame, and an epoch is one pass, not five.
pipeline = _base_.train_pipeline
del pipeline[2]
train_dataloader = dict(batch_size=16, dataset=dict(times=1, dataset=dict(pipeline=pipeline)))
auto_scale_lr = dict(base_batch_size=128)

max_epochs = 200
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=500),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=0, T_max=max_epochs, end=max_epochs,
         convert_to_iter_based=True),
]
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=9e-4, betas=(0.9, 0.999), weight_decay=0.01),
    # Weight decay would pull every mask logit to the point where its entry is a coin toss.
    paramwise_cfg=dict(norm_decay_mult=0., custom_keys={'mergers': dict(decay_mult=0.)}))
# The weights that are tested and kept are means over the last steps, some 2,000 of them.
custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=5e-4)]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='coco/bbox_mAP'))
