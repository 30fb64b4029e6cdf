"""All that is written of a folder of results for people and programs."""

import json
from pathlib import Path
from typing import List, Optional

from mmltm.utils.errors import UserError

from .plot import draw_pareto
from .table import make_rows, to_markdown, write_csv

NAME = 'comparison'


def write_report(out_dir: Path, metric: Optional[str] = None) -> List[dict]:
    """Write the table, as ``comparison.md``, ``.csv`` and ``.json``, and the plot, ``comparison.png``.

    Args:
        out_dir (Path): Folder of results.
        metric (str, optional): What the table is about, see :func:`~mmltm.comparison.table.make_rows`.

    Returns:
        list[dict]: The rows.

    Raises:
        UserError: There are no results.
    """
    out_dir = Path(out_dir)
    rows = make_rows(out_dir, metric)
    if not rows:
        raise UserError(f'{out_dir} holds no results')
    (out_dir / f'{NAME}.md').write_text(to_markdown(rows))
    (out_dir / f'{NAME}.json').write_text(json.dumps(dict(rows=rows), indent=1) + '\n')
    write_csv(rows, out_dir / f'{NAME}.csv')
    draw_pareto(rows, out_dir / f'{NAME}.png')
    return rows
