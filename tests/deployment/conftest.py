"""The small data set, config and runner of tools that their own tests use."""

from tests.tools.conftest import run_tool, tiny_coco, tiny_config  # noqa: F401
