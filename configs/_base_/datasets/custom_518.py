"""Your own images, as in `custom_224.py`, at the 518 pixels of DINOv2, 16 a GPU."""

_base_ = './custom_224.py'

train_dataloader = _base_.train_dataloader
train_dataloader.batch_size = 16
train_dataloader.dataset.pipeline[1].scale = 518
val_dataloader = _base_.val_dataloader
val_dataloader.batch_size = 16
val_dataloader.dataset.pipeline[1].scale = val_dataloader.dataset.pipeline[2].crop_size = 518
test_dataloader = val_dataloader
