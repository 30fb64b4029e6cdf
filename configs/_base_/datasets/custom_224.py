"""Your own images, `data/custom/{train,val}` with a folder a class, 224 pixels, 64 a GPU; colours as in `in1k.py`."""

_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_pil_resize.py'

data_preprocessor = dict(num_classes=None)  # only Mixup and CutMix would ask for it

data_root = 'data/custom'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root=data_root,
        data_prefix='train',
        pipeline=_base_.train_pipeline))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root=data_root,
        data_prefix='val',
        pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(topk=1)  # there may be fewer than five classes
test_evaluator = val_evaluator
