"""Tables of multiply-accumulates, parameters and latency, from files of get_flops.py and benchmark.py."""


from harness.markdown import table
from harness.names import model_name
from harness.paper import Paper, heading
from mmltm.apis.benchmarking import VANILLA, beside_vanilla

_COMMON = ('scope', 'input', 'ratio', 'batch')


def macs_table(result: dict, paper: Paper) -> str:
    """Models beside their vanilla twins; one model at several ratios: a column for each ratio."""
    pairs = [(row, twin) for row, twin in beside_vanilla(result['rows']) if twin]
    if len({(row['config'], row['scope']) for row, _ in pairs}) == 1 < len(pairs):
        return _ratio_table(pairs, paper)
    rows, entries = [], []
    for row, twin in pairs:
        model = model_name(row['config'])
        entry = (paper.find(model, row['shape'], row['ratio'], 'macs_ratio')
                 or paper.find(model, row['shape'], row['ratio'], 'vanilla_gmacs'))
        entries.append(entry)
        rows.append([
            model, row['scope'], _size(row['shape']), row['ratio'], f"{twin['parameters_m']:.2f}",
            f"{row['parameters_m']:.2f}", f"{twin['gmacs']:.3f}", f"{row['gmacs']:.3f}",
            f"{row['gmacs'] / twin['gmacs']:.3f}", _papers(entry)])
    header = ['model', 'scope', 'input', 'ratio', 'vanilla, M parameters', 'LTM, M parameters', 'vanilla, GMACs',
              'LTM, GMACs', 'quotient']
    if any(entries):
        return table([*header, heading('quotient', entries)], rows, _COMMON)
    return table(header, [row[:-1] for row in rows], _COMMON)


def _papers(entry):
    if entry is None:
        return None
    if 'macs_ratio' in entry:
        return f"{entry['macs_ratio']:.3f}"
    return f"{entry['gmacs'] / entry['vanilla_gmacs']:.2f} ({entry['gmacs']} of {entry['vanilla_gmacs']} G)"


def _ratio_table(pairs, paper) -> str:
    entries = [paper.find(model_name(row['config']), row['shape'], row['ratio'], 'gmacs') for row, _ in pairs]
    rows = [['LTM, GMACs', *(f"{row['gmacs']:.2f}" for row, _ in pairs)],
            ['quotient to vanilla', *(f"{row['gmacs'] / twin['gmacs']:.3f}" for row, twin in pairs)]]
    if any(entries):
        rows.append([heading('GMACs', entries), *(entry and f"{entry['gmacs']:.2f}" for entry in entries)])
    return table([f"{model_name(pairs[0][0]['config'])}, ratio", *(row['ratio'] for row, _ in pairs)], rows)


def latency_table(result: dict, paper: Paper) -> str:
    """Latency of one merger for each config, or of several side by side, beside the vanilla twin's."""
    rows = result['rows']
    mergers = {row['merger'] for row in rows} - {VANILLA}
    return _mergers_table(rows) if len(mergers) > 1 else _twins_table(rows)


def _twins_table(rows) -> str:
    lines = []
    for row, twin in beside_vanilla(rows):
        lines.append([
            model_name(row['config']), row['scope'], _size(row['shape']), row['batch_size'],
            f"{twin['parameters_m']:.2f} / {row['parameters_m']:.2f}", f"{twin['gmacs']:.3f} / {row['gmacs']:.3f}",
            f"{row['macs_ratio']:.3f}", f"{twin['latency_ms']:.1f} / {row['latency_ms']:.1f}",
            _spread(row, 'latency_ratio')])
    return table(['model', 'scope', 'input', 'batch', 'parameters, M, vanilla / LTM', 'GMACs, vanilla / LTM',
                  'MACs quotient', 'latency, ms, vanilla / LTM', 'latency quotient (quartiles)'], lines, _COMMON)


def _mergers_table(rows) -> str:
    first = next(row['merger'] for row in rows if row['merger'] != VANILLA)
    lines, reasons = [], {}
    for row in rows:
        cells = [model_name(row['config']), row['scope'], _size(row['shape']), row['batch_size'], row['merger']]
        if 'reason' in row:
            reasons[row['config'], row['merger']] = row['reason']
            continue
        lines.append([
            *cells, f"{row['gmacs']:.3f}", f"{row['macs_ratio']:.3f}", f"{row['latency_ms']:.1f}",
            None if row['merger'] == VANILLA else _spread(row, 'latency_ratio'),
            None if row['first_ratio'] is None or row['merger'] == first else _spread(row, 'first_ratio')])
    text = table(['model', 'scope', 'input', 'batch', 'merger', 'GMACs', 'to vanilla', 'latency, ms',
                  'to vanilla (quartiles)', f'{first} / this (quartiles)'], lines, _COMMON)
    notes = [f'- {merger} on {model_name(config)}: {reason}' for (config, merger), reason in reasons.items()]
    return '\n'.join([text, '', *notes]) if notes else text


def _spread(row, field) -> str:
    low, high = row[f'{field}_quartiles']
    return f'{row[field]:.3f} ({low:.3f}-{high:.3f})'


def _size(shape: list[int]) -> str:
    return '{} x {}'.format(*shape)
