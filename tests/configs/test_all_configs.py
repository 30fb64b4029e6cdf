"""Every config below configs/, in whichever folder: found by its name alone, and its header says how to train it."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path.relative_to(ROOT) for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


def test_names_are_unique_and_folders_flat():
    """Results name a config by its stem; the tests beside this one find all that lie no deeper than one folder."""
    assert len({path.stem for path in CONFIGS}) == len(CONFIGS) > 80
    assert all(len(path.parts) <= 3 for path in CONFIGS)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_header_gives_the_command(path):
    title, _, rest = (ROOT / path).read_text().split('"""')[1].partition('\n')
    assert title.endswith('.')
    assert f'python tools/train.py {path} ' in rest.replace('\n', ' ') or f'bash tools/dist_train.sh {path} 8' in rest
