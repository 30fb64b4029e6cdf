"""Swin-T classifier with windows of 4 tokens for small images."""

_base_ = './swin_t.py'

model = dict(backbone=dict(window_size=4))
