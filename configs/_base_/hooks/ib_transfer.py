"""Masks by the information bottleneck in trained weights, whose features are worth a projection fitted to them."""

custom_hooks = [dict(type='mmltm.IBStatisticsHook', fit_projection=True)]
