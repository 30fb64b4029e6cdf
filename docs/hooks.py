"""mkdocs: pages that lie outside docs/ join the site under the names that they have in the repository."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ELSEWHERE = ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'CITATION.cff', 'LICENSE', 'results/README.md',
             'results/**/ib_layers.md', 'results/**/*.png', 'configs/**/*.md', 'configs/**/*.py')


def on_files(files, config):
    root = Path(config.config_file_path).parent
    for path in sorted(path for pattern in ELSEWHERE for path in root.glob(pattern)):
        files.append(File.generated(config, path.relative_to(root).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """On the site docs/ is the root: links into it and out of it lose that step."""
    if page.file.generated_by:
        return re.sub(r'(\]\(|src=")((?:\.\./)*)docs/', r'\1\2', markdown)
    return re.sub(r'(\]\(|src=")\.\./', r'\1', markdown)


def on_page_content(html, page, config, files):
    """Docstrings name functions and classes as Sphinx does."""
    return re.sub(r':(?:class|func|meth|mod|attr):(<code>)~?(?:[\w.]*\.)?(\w+)</code>', r'\1\2</code>', html)
