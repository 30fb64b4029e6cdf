"""Under which code, versions and hardware a result has come about."""

import datetime
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import mmltm


def setting(device: torch.device | None = None) -> dict[str, Any]:
    """What a result file says about its origin, without any path.

    Args:
        device (torch.device, optional): Where models run. Defaults to a GPU if there is one.

    Returns:
        dict: ``revision`` of git, or None outside a repository; ``dirty``, whether files of the repository differed
        from it; ``mmltm``, ``torch`` and ``python``, versions; ``device`` ('cpu' or 'cuda'), ``hardware``, its name,
        ``threads`` of torch on a CPU, ``dtype``, and ``date`` (UTC, to the second).
    """
    kind = device.type if device is not None else 'cuda' if torch.cuda.is_available() else 'cpu'
    revision = _git('rev-parse', 'HEAD')
    return dict(
        revision=revision,
        dirty=bool(_git('status', '--porcelain')) if revision else None,
        mmltm=mmltm.__version__,
        torch=torch.__version__,
        python=platform.python_version(),
        device=kind,
        hardware=torch.cuda.get_device_name(device) if kind == 'cuda' else cpu_name(),
        threads=torch.get_num_threads(),
        dtype=str(torch.get_default_dtype()).removeprefix('torch.'),
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'))


def cpu_name() -> str:
    """Name of the processor, as the kernel gives it."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:  # other systems
        lines = []
    names = (line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
    return next(names, None) or platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    """What git says about the repository of this package; None if there is none."""
    try:
        return subprocess.run(['git', *arguments], cwd=Path(__file__).parent, capture_output=True, text=True,
                              check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
