"""UPerNet, Swin-T, ADE20K semantic segmentation at 512 x 512 pixels, 160,000 iterations.

    python tools/train.py configs/upernet_swin_t_160k_ade20k.py [--data-root DIR]
    bash tools/dist_train.sh configs/upernet_swin_t_160k_ade20k.py 8

Learning rate 0.00006 for a total batch of 16 (8 GPUs x 2 images). For another total batch add `--auto-scale-lr`.
mmseg's recipe, from the ImageNet weights in mmpretrain's names.
"""

_base_ = ['_base_/models/upernet_swin_t.py', '_base_/seg_ade20k_160k.py']
