"""README.md and the pages in docs/ name only what there is: links, paths, tools and their options, registered types."""

import contextlib
import io
import re
import runpy
import shlex
import sys
from functools import cache

import pytest

import mmltm
from mmltm import registry
from mmltm.__main__ import find_tool
from tests.conftest import ROOT

PAGES = [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'results/README.md')]
PAGES += sorted((ROOT / 'docs').glob('*.md'))
pages = pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def slugs(page):
    """Anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r'^#+ (.+)$', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pages
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if not target.startswith('http'):
            path, _, anchor = target.partition('#')
            path = (page.parent / path).resolve() if path else page
            assert path.exists(), target
            assert not anchor or anchor in slugs(path), target


@pages
def test_paths_exist(page):
    for path in re.findall(r'(?<![\w/.])(?:tools|configs|docs|tests|results|mmltm)/[\w./*-]*\w', page.read_text()):
        assert re.search('[A-Z]{4}', path.replace('README', '')) or list(ROOT.glob(path)), path  # NAME stands for any


def test_the_readme_is_short():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


def commands(page):
    """The words of every command of a page that calls one of our tools, from `python` on, comments left out."""
    text = page.read_text().replace('\\\n', ' ')
    # What a shell would compute first is of no matter here.
    text = re.sub(r'"\$\(.*\)"', 'X', text)
    for line in re.findall(r'python ((?:tools|demo)/[^\n`]+)', text):
        yield shlex.split(line, comments=True)
    for line in re.findall(r'^mmltm (\w+ [^\n`]+)', text, re.MULTILINE):
        tool, *words = shlex.split(line, comments=True)
        yield [str(find_tool(tool).relative_to(ROOT)), *words]


@cache
def help_text(*arguments):
    """What a tool prints when asked for help."""
    output, before = io.StringIO(), sys.argv
    sys.argv = [*arguments, '--help']
    try:
        with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as exit:
            runpy.run_path(str(ROOT / arguments[0]), run_name='__main__')
    finally:
        sys.argv = before
    assert not exit.value.code, arguments
    return output.getvalue()


@pages
def test_tools_know_their_options(page):
    for tool, *words in commands(page):
        assert (ROOT / tool).exists(), tool
        text = help_text(tool)
        if words and re.search(rf'[{{,]{re.escape(words[0])}[,}}].* \.\.\.', text):
            text = help_text(tool, words[0])
        options = {word.strip('[]') for word in words if re.match(r'\[?--\w', word)}
        assert options <= set(re.findall(r'--[\w-]+', text)), (tool, words)


@pages
def test_types_are_registered(page):
    registries = (registry.MODELS, registry.HOOKS, registry.METRICS, registry.TRANSFORMS, registry.OPTIM_WRAPPERS,
                  registry.OPTIM_WRAPPER_CONSTRUCTORS)
    text = page.read_text()
    for name in set(re.findall(r'\bmmltm\.([A-Z]\w+)', text)) - set(re.findall(r'^class (\w+)', text, re.MULTILINE)):
        assert any(known.get(f'mmltm.{name}') for known in registries), name


@pages
def test_python_can_be_read(page):
    for block in re.findall(r'```python\n(.*?)```', page.read_text(), re.DOTALL):
        compile(block, str(page), 'exec')


def test_functions_of_mmltm_are_there():
    for page in PAGES:
        for name in set(re.findall(r'\bmmltm\.([a-z]\w+)\(', page.read_text())):
            assert callable(getattr(mmltm, name)), name
