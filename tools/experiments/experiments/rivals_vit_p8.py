"""As rivals_vit, on ViT-Ti with 16 x 16 tokens: twelve blocks, a class token, four windows of masks."""

_base_ = './rivals_vit.py'

config = 'ltm_vit_t_p8_finetune_imagenette128'
vanilla = ['efficientvit_b0_imagenette128_60e', 'vit_t_p8_imagenette128_distilled']
left_out = ('LTM, by image', 'LTM, the paper as printed', 'LTMP', 'CubistMerge')
methods = [method for method in _base_.methods if method['label'] not in left_out]
claims = [
    claim for claim in _base_.claims
    if 'latency' in claim or not {claim['ours']['label'], claim['theirs']['label']} & {*left_out}
]
