"""ImageNet-1k at 256 pixels, tested on the whole short edge."""

_base_ = './in1k.py'

train_dataloader = _base_.train_dataloader
train_dataloader.dataset.pipeline[1].scale = 256
val_dataloader = _base_.val_dataloader
val_dataloader.dataset.pipeline[1].scale = val_dataloader.dataset.pipeline[2].crop_size = 256
test_dataloader = val_dataloader
