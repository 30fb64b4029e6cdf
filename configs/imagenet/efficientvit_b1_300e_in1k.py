"""EfficientViT-B1 from scratch on ImageNet-1k at 224 pixels, 300 epochs.

    bash tools/dist_train.sh configs/imagenet/efficientvit_b1_300e_in1k.py 8 [--data-root DIR] [--amp]

Learning rate 0.002 for a total batch of 1024 (8 GPUs x 128 images). For another total batch add `--auto-scale-lr`.
"""

_base_ = [
    '../_base_/models/efficientvit_b1.py',
    '../_base_/datasets/in1k.py',
    '../_base_/schedules/in1k_300e.py',
]
