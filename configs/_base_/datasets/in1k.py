"""ImageNet-1k as `data/imagenet/{train,val}/<wnid>`, 224 pixels, 128 images a GPU, augmented as in the LTM paper.

RandAugment and random erasing come with mmpretrain's data set; Mixup or CutMix, one of them for every batch, here.
Colours as most weights expect: RGB, ImageNet's mean and standard deviation.
"""

_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'

data_preprocessor = dict(
    batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))
train_dataloader = dict(batch_size=128)
