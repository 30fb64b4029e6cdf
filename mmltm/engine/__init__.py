"""Parts of the training loop: hooks, files that are written whole, and optimisation in bfloat16."""

from mmltm.engine import bfloat16, hooks, whole_files  # noqa: F401  (registers them)
