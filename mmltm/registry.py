"""Child registries of mmengine's.

A type written ``mmltm.X`` is found here under any ``default_scope``: mmengine imports ``<scope>.registry`` for a scope
it has not met, so configs need no ``custom_imports``.
"""

import mmengine.registry as parents
from mmengine.registry import Registry

MODELS = Registry('model', parent=parents.MODELS, scope='mmltm', locations=['mmltm.models'])
DATASETS = Registry('dataset', parent=parents.DATASETS, scope='mmltm', locations=['mmltm.datasets'])
TRANSFORMS = Registry('transform', parent=parents.TRANSFORMS, scope='mmltm', locations=['mmltm.datasets'])
HOOKS = Registry('hook', parent=parents.HOOKS, scope='mmltm', locations=['mmltm.engine'])
METRICS = Registry('metric', parent=parents.METRICS, scope='mmltm', locations=['mmltm.evaluation'])
OPTIM_WRAPPERS = Registry(
    'optim_wrapper', parent=parents.OPTIM_WRAPPERS, scope='mmltm', locations=['mmltm.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optim wrapper constructor', parent=parents.OPTIM_WRAPPER_CONSTRUCTORS, scope='mmltm', locations=['mmltm.engine'])
RUNNERS = Registry('runner', parent=parents.RUNNERS, scope='mmltm', locations=['mmltm.engine'])
STRATEGIES = Registry('strategy', parent=parents.STRATEGIES, scope='mmltm', locations=['mmltm.engine'])
