"""Parts of the training loop: hooks, whole files, sharded models, and optimisation in bfloat16."""

from mmltm.engine import bfloat16, hooks, sharded, whole_files  # noqa: F401  (registers them)
