"""SSDLite on LTM-MobileViT-S, from scratch on the mini set, on two CPU cores in minutes.

    python tools/dataset_converters/make_mini_coco.py generate data/mini_coco
    python tools/train.py configs/mini/ssdlite_ltm_mobilevit_s_mini.py

Learning rate 0.0015 for a total batch of 4, at 192 x 192 pixels.
"""

_base_ = '../ssdlite_ltm_mobilevit_s_200e.py'

data_root = 'data/mini_coco/'
classes = ('circle', 'rectangle', 'triangle', 'star', 'cross')
scale = (192, 192)
# Objects measure 30 to 95 pixels: a finer level in place of the coarsest ones, and on every level anchors of two to
# four times its stride, so that each object overlaps some anchor by half and more.
channels = (256, 256, 256, 128, 64)
model = dict(
    backbone=dict(out_indices=(2, 3, 4), pretrained=None, merger=dict(num_classes=len(classes))),
    neck=dict(in_channels=(96, 128, 160), out_channels=channels),
    bbox_head=dict(
        num_classes=len(classes),
        in_channels=channels,
        anchor_generator=dict(
            strides=[8, 16, 32, 64, 192],
            ratios=[[2], [2], [2], [2], [2]],
            min_sizes=[28, 42, 62, 88, 120],
            max_sizes=[42, 62, 88, 120, 160])))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=False),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=4, num_workers=1, dataset=dict(dataset=dict(pipeline=train_pipeline, **dataset)))
val_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

# Averaged weights are for long trainings: these must follow within minutes.
custom_hooks = [hook for hook in _base_.custom_hooks if hook['type'] != 'EMAHook']
max_epochs = 20
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=max_epochs, end=max_epochs,
         convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=0.0015), clip_grad=dict(max_norm=10))
auto_scale_lr = dict(base_batch_size=4)
randomness = dict(seed=0)
default_hooks = dict(logger=dict(interval=10))
