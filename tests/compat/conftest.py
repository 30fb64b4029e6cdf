"""The stand-in must be installed before a test module imports mmcv.ops."""

import mmltm  # noqa: F401
