"""Masks by the information bottleneck (Algorithm 1 of the LTM paper) in 300 epochs, the first 100 without merging."""

custom_hooks = [dict(type='mmltm.IBStatisticsHook', t_warm=100)]
