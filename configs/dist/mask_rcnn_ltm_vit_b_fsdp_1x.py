"""Mask R-CNN, ViT-B with token merging, weights, gradients and optimizer states spread over the processes by FSDP.

    bash tools/dist_train.sh configs/dist/mask_rcnn_ltm_vit_b_fsdp_1x.py 8 [--data-root DIR] [--amp]

Each process keeps 1 / 8 of them; attention and MLPs are gathered one by one as they are needed. For another backbone
keep `min_num_params` below the size of what its forward pass calls: the parts of a block, not the block. All else as in
mask_rcnn_ltm_vit_b_1x.py. Checkpoints are those of any other training: docs/distributed.md.
"""

_base_ = '../mask_rcnn_ltm_vit_b_1x.py'

strategy = dict(
    type='mmltm.FSDPStrategy',
    model_wrapper=dict(auto_wrap_policy=dict(type='size_based_auto_wrap_policy', min_num_params=2_000_000)))
