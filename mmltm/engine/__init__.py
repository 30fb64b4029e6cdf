"""Parts of the training loop: hooks, and optimisation in bfloat16."""

from mmltm.engine import bfloat16, hooks  # noqa: F401  (registers them)
