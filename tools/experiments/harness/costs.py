"""Tables of multiply-accumulates, parameters and latency, from files of get_flops.py and benchmark.py.

Numbers of the paper itself stand beside ours, marked as the paper's.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from mmltm.apis.benchmarking import beside_vanilla

from .cell import VANILLA
from .markdown import table
from .names import model_name

_COMMON = ('scope', 'input', 'ratio', 'batch')


class Paper:
    """The paper's numbers.

    Args:
        path (Path): File with ``entries``, each with ``table`` (its number in the paper, null if unknown), ``model``,
            ``pixels`` (height) and ``ratio``, and one or more of ``gmacs``, ``vanilla_gmacs`` and ``macs_ratio``.
    """

    def __init__(self, path: Path):
        self._entries: list[dict] = json.loads(path.read_text())['entries']

    def find(self, row: dict, *fields: str) -> dict | None:
        """The entry on the model of a row of results that says one of some fields, if there is one."""
        wanted = dict(model=model_name(row['config']), pixels=row['shape'][0], ratio=row['ratio'])
        return next((entry for field in fields for entry in self._entries
                     if field in entry and all(entry[key] == value for key, value in wanted.items())), None)


def _heading(text: str, entries: Sequence[dict | None]) -> str:
    """Heading of a column or row of the paper's numbers, with the tables that they stand in."""
    numbers = sorted({entry['table'] for entry in entries if entry and entry['table']})
    return f"the paper's {text}" + (f" (its Table {', '.join(numbers)})" if numbers else '')


def macs_table(result: dict, paper: Paper) -> str:
    """Models beside their vanilla twins; one model at several ratios: a column for each ratio."""
    pairs = [(row, twin) for row, twin in beside_vanilla(result['rows']) if twin]
    if len({(row['config'], row['scope']) for row, _ in pairs}) == 1 < len(pairs):
        return _ratio_table(pairs, paper)
    entries = [paper.find(row, 'macs_ratio', 'vanilla_gmacs') for row, _ in pairs]
    header = ['model', 'scope', 'input', 'ratio', 'vanilla, M parameters', 'LTM, M parameters', 'vanilla, GMACs',
              'LTM, GMACs', 'quotient', *([_heading('quotient', entries)] if any(entries) else [])]
    rows = [[model_name(row['config']), row['scope'], _size(row), row['ratio'], f"{twin['parameters_m']:.2f}",
             f"{row['parameters_m']:.2f}", f"{twin['gmacs']:.3f}", f"{row['gmacs']:.3f}",
             f"{row['gmacs'] / twin['gmacs']:.3f}", _papers(entry)] for (row, twin), entry in zip(pairs, entries)]
    return table(header, rows, _COMMON)


def _papers(entry: dict | None) -> str | None:
    if entry is None:
        return None
    if 'macs_ratio' in entry:
        return f"{entry['macs_ratio']:.3f}"
    return f"{entry['gmacs'] / entry['vanilla_gmacs']:.2f} ({entry['gmacs']} of {entry['vanilla_gmacs']} G)"


def _ratio_table(pairs: list[tuple[dict, dict]], paper: Paper) -> str:
    entries = [paper.find(row, 'gmacs') for row, _ in pairs]
    rows = [['LTM, GMACs', *(f"{row['gmacs']:.2f}" for row, _ in pairs)],
            ['quotient to vanilla', *(f"{row['gmacs'] / twin['gmacs']:.3f}" for row, twin in pairs)]]
    if any(entries):
        rows.append([_heading('GMACs', entries), *(entry and f"{entry['gmacs']:.2f}" for entry in entries)])
    return table([f"{model_name(pairs[0][0]['config'])}, ratio", *(row['ratio'] for row, _ in pairs)], rows)


def latency_table(result: dict, paper: Paper) -> str:
    """Latency of one merger for each config, or of several side by side, beside the vanilla twin's; in one runtime or
    in several.
    """
    rows = result['rows']
    if len({row['runtime'] for row in rows}) > 1:
        return _runtimes_table(rows)
    mergers = {row['merger'] for row in rows} - {VANILLA}
    return _mergers_table(rows) if len(mergers) > 1 else _twins_table(rows)


def _twins_table(rows: list[dict]) -> str:
    lines = [[model_name(row['config']), row['scope'], _size(row), row['batch_size'],
              f"{twin['parameters_m']:.2f} / {row['parameters_m']:.2f}", f"{twin['gmacs']:.3f} / {row['gmacs']:.3f}",
              f"{row['macs_ratio']:.3f}", f"{twin['latency_ms']:.1f} / {row['latency_ms']:.1f}",
              _spread(row, 'latency_ratio')] for row, twin in beside_vanilla(rows)]
    return table(['model', 'scope', 'input', 'batch', 'parameters, M, vanilla / LTM', 'GMACs, vanilla / LTM',
                  'MACs quotient', 'latency, ms, vanilla / LTM', 'latency quotient (quartiles)'], lines, _COMMON)


def _mergers_table(rows: list[dict]) -> str:
    first = next(row['merger'] for row in rows if row['merger'] != VANILLA)
    memory = ['peak, MB'] if any('peak_mb' in row for row in rows) else []
    lines, reasons = [], {}
    for row in rows:
        cells = [model_name(row['config']), row['scope'], _size(row), row['batch_size'], row['merger']]
        if 'reason' in row:
            reasons[f"{row['merger']} on {model_name(row['config'])}"] = row['reason']
            continue
        lines.append([
            *cells, f"{row['gmacs']:.3f}", f"{row['macs_ratio']:.3f}",
            *(f"{row['peak_mb']:.0f}" for _ in memory), f"{row['latency_ms']:.1f}",
            None if row['merger'] == VANILLA else _spread(row, 'latency_ratio'),
            None if row['first_ratio'] is None or row['merger'] == first else _spread(row, 'first_ratio')])
    text = table(['model', 'scope', 'input', 'batch', 'merger', 'GMACs', 'to vanilla', *memory,
                  'latency, ms', 'to vanilla (quartiles)', f'{first} / this (quartiles)'], lines, _COMMON)
    return _with_notes(text, reasons)


def _runtimes_table(rows: list[dict]) -> str:
    """Of vanilla models the latency, of mergers its quotient to that, and how far it is above that of operations."""
    runtimes = list(dict.fromkeys(row['runtime'] for row in rows))
    lines: dict[tuple, dict[str, str]] = {}
    reasons: dict[tuple, dict] = {}
    for row in rows:
        if 'reason' in row:
            reasons.setdefault((row['merger'], model_name(row['config']), row['reason']), {})[row['runtime']] = True
            continue
        quotient = None if row['merger'] == VANILLA else f"{row['macs_ratio']:.3f}"
        line = lines.setdefault((model_name(row['config']), row['scope'], _size(row), row['batch_size'], row['merger'],
                                 quotient), {})
        line[row['runtime']] = f"{row['latency_ms']:.1f} ms" if quotient is None else (
            f"{row['latency_ratio']:.3f} ({row['latency_ratio'] - row['macs_ratio']:+.3f})")
    return _with_notes(table(['model', 'scope', 'input', 'batch', 'merger', 'MACs quotient', *runtimes],
                             [[*key, *map(line.get, runtimes)] for key, line in lines.items()], _COMMON), {
                                 f"{merger} on {model} in {', '.join(where)}": reason
                                 for (merger, model, reason), where in reasons.items()})


def _with_notes(text: str, reasons: dict[str, str]) -> str:
    return '\n'.join([text, '', *(f'- {what}: {reason}' for what, reason in reasons.items())]) if reasons else text


def _spread(row: dict, field: str) -> str:
    low, high = row[f'{field}_quartiles']
    return f'{row[field]:.3f} ({low:.3f}-{high:.3f})'


def _size(row: dict) -> str:
    return '{} x {}'.format(*row['shape'])
