"""Parts of the training loop: hooks."""

from mmltm.engine import hooks  # noqa: F401  (registers them)
