"""Child registries of mmengine's.

A type written ``mmltm.X`` is found here under any ``default_scope``: mmengine
imports ``<scope>.registry`` for a scope it has not met, so configs need no
``custom_imports``.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry(
    'model', parent=MMENGINE_MODELS, scope='mmltm', locations=['mmltm.models'])
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='mmltm', locations=['mmltm.datasets'])
TRANSFORMS = Registry(
    'transform', parent=MMENGINE_TRANSFORMS, scope='mmltm', locations=['mmltm.datasets'])
HOOKS = Registry(
    'hook', parent=MMENGINE_HOOKS, scope='mmltm', locations=['mmltm.engine'])
METRICS = Registry(
    'metric', parent=MMENGINE_METRICS, scope='mmltm', locations=['mmltm.evaluation'])
OPTIM_WRAPPERS = Registry(
    'optim_wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope='mmltm', locations=['mmltm.engine'])
