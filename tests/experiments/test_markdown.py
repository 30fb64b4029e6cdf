"""Tables and blocks of a page."""

import pytest

from harness.markdown import fill, table

PAGE = ('before\n<!-- results:one -->\nold\n<!-- /results:one -->\n'
        'between\n<!-- results:a/b -->\n<!-- /results:a/b -->\n')


def test_blocks_are_filled_and_nothing_else():
    filled = fill(PAGE, lambda name: f'new {name}')
    assert filled == PAGE.replace('old', 'new one').replace('a/b -->\n<', 'a/b -->\nnew a/b\n<')
    assert fill(filled, lambda name: f'new {name}') == filled


@pytest.mark.parametrize('marker', ['<!-- results:one -->', '<!-- /results:one -->'])
def test_marker_without_partner(marker):
    with pytest.raises(ValueError, match='missing or misspelt'):
        fill(PAGE.replace(marker, ''), str)


def test_columns_that_hold_the_same_are_said_once():
    rows = [['a', 1, None], ['b', 1, 2]]
    assert table(['x', 'ratio', 'y'], rows, ['ratio', 'y']) == (
        'Ratio 1:\n\n| x | y |\n| --- | --- |\n| a |  |\n| b | 2 |')
    assert table(['x'], [['a']]) == '| x |\n| --- |\n| a |'
