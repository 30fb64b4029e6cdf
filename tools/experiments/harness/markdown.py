"""Markdown tables, and blocks of a page that are filled in from results."""

import re
from collections.abc import Callable, Iterable, Sequence

_BLOCK = re.compile(
    r'(?P<start><!-- results:(?P<name>[\w/.-]+) -->\n).*?(?P<end><!-- /results:(?P=name) -->)', re.DOTALL)


def table(header: Sequence[str], rows: Iterable[Sequence[object]], common: Sequence[str] = ()) -> str:
    """A table, None as an empty cell.

    Args:
        header (Sequence[str]): Headings of the columns.
        rows (Iterable[Sequence]): A value a column.
        common (Sequence[str]): Headings of columns that, where they hold the same in all rows, are said once, in a
            line above the table. Defaults to none.
    """
    def line(cells):
        return '| ' + ' | '.join('' if cell is None else str(cell) for cell in cells) + ' |'

    rows = [list(row) for row in rows]
    alike = [index for index, name in enumerate(header) if name in common and len({row[index] for row in rows}) == 1]

    def rest(cells):
        return [cell for index, cell in enumerate(cells) if index not in alike]

    said = ', '.join(f'{header[index]} {rows[0][index]}' for index in alike)
    lines: list[str] = [line(rest(header)), line(['---'] * len(rest(header))), *(line(rest(row)) for row in rows)]
    return '\n'.join([f'{said[0].upper()}{said[1:]}:', '', *lines] if said else lines)


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
