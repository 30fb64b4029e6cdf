"""Mask R-CNN, ViT-B with token merging, gradients and optimizer states spread over the processes by DeepSpeed.

    bash tools/dist_train.sh configs/dist/mask_rcnn_ltm_vit_b_deepspeed_1x.py 8 [--data-root DIR]

Needs `pip install deepspeed` and GPUs. ZeRO stage 2 in float32; bfloat16: --cfg-options strategy.bf16.enabled=True
strategy.inputs_to_half=['inputs']. All else as in mask_rcnn_ltm_vit_b_1x.py. Checkpoints are folders, which its
zero_to_fp32.py turns into weights: docs/distributed.md.
"""

_base_ = '../mask_rcnn_ltm_vit_b_1x.py'

strategy = dict(type='DeepSpeedStrategy', zero_optimization=dict(stage=2))
optim_wrapper = dict(type='DeepSpeedOptimWrapper')
