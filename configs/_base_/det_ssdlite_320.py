"""SSDLite at 320 x 320 pixels for 200 epochs of COCO, as in Table 3 of the LTM paper; the backbone is left to say.

From mmdet's SSDLite on MobileNetV2: its six levels (strides 16 to 320), anchors, augmentation and losses
(cross-entropy with three hard negatives an object, smooth L1). Total batch 128: 8 GPUs x 16 images.
"""

_base_ = 'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py'

model = dict(bbox_head=dict(type='mmltm.SSDHead'))

# An epoch is one pass, not five.
train_dataloader = dict(batch_size=16, dataset=dict(times=1))
auto_scale_lr = dict(base_batch_size=128)

max_epochs = 200
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='CosineAnnealingLR', eta_min=1.6e-6, by_epoch=True, begin=0, T_max=max_epochs, end=max_epochs,
         convert_to_iter_based=True),
]
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=9e-4, betas=(0.9, 0.999), weight_decay=0.01),
    # Weight decay would pull every mask logit to the point where its entry is a coin toss.
    paramwise_cfg=dict(norm_decay_mult=0., custom_keys={'mergers': dict(decay_mult=0.)}))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='coco/bbox_mAP'))
