"""Markdown tables, and blocks of a page that are filled in from results."""

import math
import re
from collections.abc import Callable, Iterable, Sequence

_BLOCK = re.compile(
    r'(?P<start><!-- results:(?P<name>[\w/.-]+) -->\n).*?(?P<end><!-- /results:(?P=name) -->)', re.DOTALL)


def table(header: Sequence[object], rows: Iterable[Sequence[object]], common: Sequence[str] = (),
          align: str = 'l') -> str:
    """A table, None as an empty cell.

    Args:
        header (Sequence): Headings of the columns.
        rows (Iterable[Sequence]): A value a column.
        common (Sequence[str]): Headings of columns that, where they hold the same in all rows, are said once, in a
            line above the table. Defaults to none.
        align (str): 'l' or 'r' for every column; the last one stands for all that follow. Defaults to 'l'.
    """
    columns = list(zip(header, align.ljust(len(header), align[-1]), *rows))
    alike = [column for column in columns if column[0] in common and len(set(column[2:])) == 1]
    rest = [(name, dict(l='---', r='---:')[side], *cells) for name, side, *cells in columns
            if (name, side, *cells) not in alike]
    lines = ['| ' + ' | '.join('' if cell is None else str(cell) for cell in line) + ' |' for line in zip(*rest)]
    said = ', '.join(f'{column[0]} {column[2]}' for column in alike)
    return '\n'.join([f'{said[0].upper()}{said[1:]}:', '', *lines] if said else lines)


def number(value: float | None, digits: int, sign: str = '', error: float | None = None) -> str:
    """A number with so many decimals and, after ±, its error; neither where it is None or NaN."""
    text = '' if value is None or math.isnan(value) else f'{value:{sign}.{digits}f}'
    return text if error is None or math.isnan(error) else f'{text} ± {error:.{digits}f}'


def fill(text: str, render: Callable[[str], str]) -> str:
    """The text with every block between ``<!-- results:NAME -->`` and ``<!-- /results:NAME -->`` rendered anew.

    Args:
        text (str): Of a page.
        render (Callable): From the name of a block to its content.

    Raises:
        ValueError: A marker has no partner.
    """
    filled = _BLOCK.sub(lambda match: f'{match["start"]}{render(match["name"])}\n{match["end"]}', text)
    markers = re.findall(r'<!-- /?results:.*?-->', text)
    if len(markers) != 2 * len(_BLOCK.findall(text)):
        raise ValueError(f'{len(markers)} markers of results, but {len(_BLOCK.findall(text))} blocks: '
                         'a start or an end is missing or misspelt')
    return filled
