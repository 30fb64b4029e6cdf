"""Masks by the information bottleneck (Algorithm 1 of the LTM paper) in 30 epochs, the first third without merging.

For another `train_cfg.max_epochs`: --cfg-options custom_hooks.0.t_warm=2
"""

custom_hooks = [dict(type='mmltm.IBStatisticsHook', t_warm=10)]
