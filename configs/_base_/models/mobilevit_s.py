"""MobileViT-S classifier, with label smoothing."""

_base_ = 'mmpretrain::_base_/models/mobilevit/mobilevit_s.py'

model = dict(head=dict(loss=dict(_delete_=True, type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
