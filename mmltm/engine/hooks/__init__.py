"""Hooks of mmltm."""

from mmltm.engine.hooks.channels_last_hook import ChannelsLastHook
from mmltm.engine.hooks.extra_loss_hook import ExtraLossHook
from mmltm.engine.hooks.ib_metric_hook import IBMetricHook
from mmltm.engine.hooks.ib_statistics_hook import IBStatisticsHook
from mmltm.engine.hooks.ltmp_budget_hook import LTMPBudgetHook
from mmltm.engine.hooks.mask_tuning_hook import MaskTuningHook
from mmltm.engine.hooks.merge_visualization_hook import MergeVisualizationHook
from mmltm.engine.hooks.pictures_hook import PicturesHook
from mmltm.engine.hooks.random_state_hook import RandomStateHook
from mmltm.engine.hooks.skipped_images_hook import SkippedImagesHook
from mmltm.engine.hooks.start_evaluation_hook import StartEvaluationHook
from mmltm.engine.hooks.whole_checkpoint_hook import WholeCheckpointHook

__all__ = ['ChannelsLastHook', 'ExtraLossHook', 'IBMetricHook', 'IBStatisticsHook', 'LTMPBudgetHook', 'MaskTuningHook',
           'MergeVisualizationHook', 'PicturesHook', 'RandomStateHook', 'SkippedImagesHook', 'StartEvaluationHook',
           'WholeCheckpointHook']
