"""Parts of the training loop: hooks, whole files, sharded models, optimisation in bfloat16 and by layer."""

from mmltm.engine import bfloat16, hooks, layer_decay, sharded, whole_files  # noqa: F401  (registers them)
