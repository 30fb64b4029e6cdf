"""Writes the tables of README.md and results/README.md, and the model index, from the files in results/."""

from pathlib import Path

from harness.config_index import config_index
from harness.markdown import fill
from harness.metafiles import metafiles
from harness.report import block
from mmltm.apis.cli import make_parser
from mmltm.errors import UserError, run

EXAMPLES = """examples:
  python tools/experiments/render.py            # after a measurement
  python tools/experiments/render.py --check    # exits with 1 if anything is stale, and writes nothing

A page says where a table goes by <!-- results:NAME --> and <!-- /results:NAME -->; NAME.json in results/ fills it.
model-index.yml, configs/metafile_*.yml and configs/README.md are written whole. No number of them is typed.
"""

ROOT = Path(__file__).parents[2]
PAGES = ('README.md', 'results/README.md', 'docs/runtimes.md')


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('--check', action='store_true', help='only say what is stale')
    return parser.parse_args()


def rendered():
    """Path and content of every file that is written here."""
    results = ROOT / 'results'
    for page in PAGES:
        try:
            text = fill((ROOT / page).read_text(), lambda name, page=ROOT / page: block(name, results, page))
            yield ROOT / page, text
        except ValueError as error:
            raise UserError(f'{page}: {error}') from error
    files = metafiles(ROOT)
    for name, text in {**files, 'configs/README.md': config_index(ROOT, files)}.items():
        yield ROOT / name, text


def main():
    args = parse_args()
    stale = [(path, text) for path, text in rendered() if not path.exists() or path.read_text() != text]
    if args.check and stale:
        names = ', '.join(str(path.relative_to(ROOT)) for path, _ in stale)
        raise UserError(f'stale: {names}; run python tools/experiments/render.py')
    for path, text in stale:
        path.write_text(text)
        print(f'wrote {path.relative_to(ROOT)}')


if __name__ == '__main__':
    run(main)
