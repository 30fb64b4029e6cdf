"""Command line options that tools share (upstream's, plus ``--data-root``)."""

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mmengine.config import DictAction
from mmengine.logging import MMLogger
from rich.table import Table


class NewKey(str):
    """A key of ``--cfg-options-new``: it may be unknown."""


class CfgOptions(DictAction):
    """mmengine's action for ``--cfg-options``, with a usage error instead of a traceback for bad pairs.

    What is given by an option whose name ends in ``-new`` gets keys that may be unknown.
    """

    def __call__(self, parser, namespace, values, option_string=None):
        malformed = [value for value in values if '=' not in value]
        if malformed:
            raise argparse.ArgumentError(self, f'expected KEY=VALUE, got {" ".join(malformed)}')
        before = getattr(namespace, self.dest, None) or {}
        setattr(namespace, self.dest, {})
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, RecursionError) as error:  # of brackets; of commas outside of them
            raise argparse.ArgumentError(self, f'brackets or commas of {" ".join(values)} are wrong') from error
        given = getattr(namespace, self.dest)
        if (option_string or '').endswith('-new'):
            given = {NewKey(key): value for key, value in given.items()}
        setattr(namespace, self.dest, {**before, **given})


@contextmanager
def warnings_only() -> Iterator[None]:
    """Within it mmengine logs no more than warnings; also a decorator."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        yield
    finally:
        logger.setLevel(level)


def make_table(title: str, columns: Sequence[str], texts: int = 1) -> Table:
    """A table without rows, the first ``texts`` columns of which are texts, the others numbers."""
    table = Table(title=title, title_justify='left')
    for index, column in enumerate(columns):
        table.add_column(column, justify='left' if index < texts else 'right')
    return table


def make_parser(description: str, epilog: str) -> argparse.ArgumentParser:
    """A parser that keeps the line breaks of ``epilog``, which shows example commands."""
    return argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--cfg-options`` and ``--cfg-options-new``, which all tools that read a config have."""
    parser.add_argument(
        '--cfg-options', '--cfg-options-new', nargs='+', action=CfgOptions, metavar='KEY=VALUE', default={},
        help='override settings of the config, e.g. train_cfg.max_epochs=1 model.backbone.ratio=0.8; '
        'lists as key="[a,b]", tuples as key="(a,b)", without white space; an entry of a list by its number: '
        'custom_hooks.0.t_warm=2. What nothing would read is refused, unless given by --cfg-options-new')


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Adds ``--data-root``."""
    parser.add_argument(
        '--data-root', metavar='DIR',
        help='folder that every dataset and evaluator of the config shall read from, in the layout of the '
        "config's own data_root; applied after --cfg-options")


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that training and testing share."""
    parser.add_argument('--work-dir', metavar='DIR', help='where logs and results go; default: work_dirs/<config>')
    add_data_root(parser)
    add_cfg_options(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def parse_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parses the command line; like upstream, passes on the local rank that an old launcher gives."""
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args
