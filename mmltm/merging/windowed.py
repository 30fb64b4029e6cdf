"""Merging of maps of any size, window by window, by given matrices.

Notation of the paper, section 3: tokens Z (N, D), mask G (N, P) whose columns sum to 1, merged tokens G^T Z. A sequence
of tokens is a map whose channels come last in memory (:func:`~mmltm.merging.grids.tokens_to_map`).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .grids import AxisTile, Grid, as_grid, map_to_tokens, tile_axis, tokens_to_map

#: Most cells that a row of windows may be merged into for :meth:`WindowedMerge.collapse` to make one matrix of it: what
#: such a matrix multiplies too much then takes less time than cutting the row into windows.
BAND_LIMIT = 128


class Region(NamedTuple):
    """T equal tiles side by side, and the matrices that merge them and lead back.

    Attributes:
        rows, cols (AxisTile): Where they are on the vertical and the horizontal axis.
        merge, unmerge (Tensor): G and U, each (N, P) for all tiles, or (B, T, N, P), one a tile of every image.
    """
    rows: AxisTile
    cols: AxisTile
    merge: Tensor
    unmerge: Tensor


class Band(NamedTuple):
    """Equal rows of windows, one below the other, and the matrices, (N, P), that merge one row as a whole."""
    repeat: int
    merge: Tensor
    unmerge: Tensor


def _channels_last(x: Tensor) -> bool:
    return x.stride(-3) == 1


def _as_maps(x: Tensor) -> Tensor:
    """All maps of all images, (B, ..., C, H, W), one after the other."""
    # Where there is nothing to do nothing is done: exporters take what is flattened for of a fixed size.
    return x if x.dim() == 4 else x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _grouped_as(x: Tensor, maps: Tensor) -> Tensor:
    """The way back from :func:`_as_maps` of ``x``, for maps of any size."""
    return maps if x.dim() == 4 else maps.reshape(*x.shape[:2], *maps.shape[1:])


def _to_tiles(x: Tensor, rows: int, cols: int) -> Tensor:
    """T = rows * cols tiles of a map, (B C T, h w), or (B T, h w, C) if its channels come last in memory."""
    (b, c), (height, width) = x.shape[:2], as_grid(x.shape[-2:])
    h, w = height // rows, width // cols
    if _channels_last(x):
        x = x.permute(0, 2, 3, 1).reshape(b, rows, h, cols, w, c).transpose(2, 3)
        return x.reshape(-1, h * w, c)
    return x.reshape(b, c, rows, h, cols, w).transpose(3, 4).reshape(-1, h * w)


def _from_tiles(tiles: Tensor, like: Tensor, rows: int, cols: int, tile: Grid) -> Tensor:
    """Put tiles of ``tile`` cells side by side, in the memory layout of ``like``, the map that they were cut from."""
    (b, c), (h, w) = like.shape[:2], tile
    if _channels_last(like):
        c = tiles.shape[-1]  # a detour may have changed it
        x = tiles.reshape(b, rows, cols, h, w, c).transpose(2, 3).reshape(b, rows * h, cols * w, c)
        return x.permute(0, 3, 1, 2)
    return tiles.reshape(b, c, rows, cols, h, w).transpose(3, 4).reshape(b, c, rows * h, cols * w)


def matmul(matrix: Tensor, tiles: Tensor) -> Tensor:
    """A matrix, (P, N), or one for some of the dimensions in front, times tiles, (..., N, C)."""
    if torch.jit.is_tracing() and not torch.onnx.is_in_onnx_export():
        # As torch does it anyway. mmengine's counter of operations takes the number of products from the first factor.
        matrix = matrix.expand(*tiles.shape[:-2], *matrix.shape[-2:])
    return matrix @ tiles


def _multiply(tiles: Tensor, matrix: Tensor, channels_last: bool) -> Tensor:
    """Merge the cells of tiles, as :func:`_to_tiles` cuts them, by a (N, P) matrix, or by one a tile, (B, T, N, P).

    Where an image has several maps, groups of tokens, they share its matrices.
    """
    matrix = matrix.to(tiles.dtype)
    if matrix.dim() == 2:
        return matmul(matrix.transpose(-2, -1), tiles) if channels_last else tiles @ matrix
    batch, count = matrix.shape[:2]
    if channels_last:
        return matmul(matrix.transpose(-2, -1)[:, None], tiles.reshape(batch, -1, count, *tiles.shape[1:]))
    tiles = tiles.reshape(batch, -1, count, *tiles.shape[1:]).transpose(1, 2)
    return (tiles @ matrix).transpose(1, 2)


def _apply_to_tiles(x: Tensor, rows: int, cols: int, out: Grid, matrix: Tensor) -> Tensor:
    """Every tile of a (B, C, rows * h, cols * w) map times a matrix, (h w, h' w'), or one a tile."""
    return _from_tiles(_multiply(_to_tiles(x, rows, cols), matrix, _channels_last(x)), x, rows, cols, out)


class WindowedMerge:
    """Merging of maps, (B, ..., C, H, W), window by window, and the way back; the memory layout of a map is kept.

    A map larger than the base window is tiled; what remains at the right and lower edge, or a map smaller than the
    window, is merged by the mask resampled to its size. At most four kinds of tile occur, so at most four pairs of
    matrices.

    Args:
        grid (tuple): Height and width of the maps to merge.
        source, target (tuple): Base window before and after merging.
        matrices (callable): Gives G and U, each (h w, h' w'), for a tile of (h, w) that becomes (h', w').
    """

    def __init__(self, grid: Grid, source: Grid, target: Grid,
                 matrices: Callable[[Grid, Grid], tuple[Tensor, Tensor]]) -> None:
        rows = tile_axis(grid[0], source[0], target[0])
        cols = tile_axis(grid[1], source[1], target[1])
        self.regions = [Region(r, c, *matrices((r.size, c.size), (r.merged, c.merged))) for r in rows for c in cols]
        self._windows, self._width = (source, target), len(cols)
        self.grid: Grid = tuple(grid)
        self.merged_grid: Grid = tuple(sum(tile.repeat * tile.merged for tile in axis) for axis in (rows, cols))
        self.bands: list[Band] = []

    @property
    def _lines(self) -> list[list[Region]]:
        """Regions that lie side by side, from top to bottom."""
        return [self.regions[start:start + self._width] for start in range(0, len(self.regions), self._width)]

    def cut(self, tokens: Tensor) -> list[Tensor]:
        """The windows of every region, in the order of :attr:`regions`: (B, H, W, d) to (B, T, h w, d) each."""
        x = tokens.contiguous().permute(0, 3, 1, 2)
        return [_to_tiles(_cut(x, rows, cols), rows.repeat, cols.repeat).reshape(
            x.shape[0], -1, rows.size * cols.size, x.shape[1]) for rows, cols, *_ in self.regions]

    def with_matrices(self, matrices: Sequence[tuple[Tensor, Tensor]]) -> 'WindowedMerge':
        """The same merging with other matrices, G and U of every region, each of either shape of :class:`Region`."""
        pairs = iter(matrices)
        return WindowedMerge(self.grid, *self._windows, lambda *_: next(pairs))

    def collapse(self, limit: int = BAND_LIMIT) -> 'WindowedMerge':
        """Make one matrix of every row of windows, if these are of several kinds and merge into few cells.

        Cutting a map into windows and putting these side by side moves it about in memory, one kind of window after the
        other. A row of windows lies in memory as it is, so a small map is merged sooner by a product with a matrix that
        is mostly zeros. Where all windows of a row are of one kind, cutting costs little and such a matrix too much.
        For constant masks: the matrices, of rows that merge into ``limit`` cells at most, are worth their making only
        if they are used again.
        """
        first, height = self.regions[0], max(region.rows.merged for region in self.regions)
        alike = self._width == 1 and first.cols.repeat > 1
        if not alike and height * self.merged_grid[1] <= limit and first.merge.dim() == 2:
            self.bands = [self._band(line) for line in self._lines]
        return self

    def _band(self, line: Sequence[Region]) -> Band:
        rows, mask = line[0].rows, line[0].merge
        n, p = rows.size * self.grid[1], rows.merged * self.merged_grid[1]
        identity = torch.eye(n, dtype=mask.dtype, device=mask.device)
        one = [region._replace(rows=rows._replace(start=0, repeat=1)) for region in line]
        merge = _merge_line(identity.view(n, 1, rows.size, self.grid[1]), one).flatten(1)
        unmerge = _unmerge_line(identity[:p, :p].reshape(p, 1, rows.merged, self.merged_grid[1]), one).flatten(1)
        return Band(rows.repeat, merge, unmerge.transpose(0, 1).contiguous())

    def merge(self, x: Tensor) -> Tensor:
        """G^T x: (B, ..., C, H, W) to (B, ..., C, H', W')."""
        if self.bands and x.is_contiguous():
            rows = _cut_rows(x, [(band.repeat, len(band.merge)) for band in self.bands])
            merged = [part @ band.merge.to(x.dtype) for part, band in zip(rows, self.bands)]
            return _join_rows(merged, (*x.shape[:-2], *self.merged_grid))
        maps = _as_maps(x)
        return _grouped_as(x, _cat([_merge_line(maps, line) for line in self._lines], 2))

    def unmerge(self, y: Tensor) -> Tensor:
        """U y: (B, ..., C, H', W') to (B, ..., C, H, W)."""
        maps, lines, top = _as_maps(y), [], 0
        for line in self._lines:
            height = line[0].rows.repeat * line[0].rows.merged
            lines.append(_unmerge_line(maps[:, :, top:top + height], line))
            top += height
        return _grouped_as(y, _cat(lines, 2))

    def restore(self, full: Tensor, merged: Tensor, update: Tensor) -> Tensor:
        """All tokens plus what merged space has added since: full + U (update - merged), merged = G^T full."""
        added = update - merged
        if not self.bands or not (full.is_contiguous() and added.is_contiguous() and full.dtype == added.dtype):
            return full + self.unmerge(added)
        rows = _cut_rows(full, [(band.repeat, len(band.merge)) for band in self.bands])
        added_rows = _cut_rows(added, [(band.repeat, band.merge.shape[1]) for band in self.bands])
        restored = [torch.addmm(part, added_part, band.unmerge.transpose(-2, -1).to(part.dtype))
                    for part, added_part, band in zip(rows, added_rows, self.bands)]
        return _join_rows(restored, full.shape)

    def detour(self, tokens: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """U f(G^T x) of tokens (B, H W, C) for a function f of single tokens, (..., C), in any order.

        The same as merging, f and unmerging, but the merged windows need not be put side by side and cut again.
        """

        def through(tiles: Tensor, region: Region) -> Tensor:
            merged = function(_multiply(tiles, region.merge, True)).flatten(0, -3)
            return _multiply(merged, region.unmerge.transpose(-2, -1), True)

        return _map_tiles(tokens, self.grid, self._lines, through)


def map_windows(tokens: Tensor, grid: Grid, source: Grid, target: Grid,
                function: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Apply a function to the windows of tokens, (B, H W, C), those of one kind together, for mergers without matrices.

    The function is one of windows, (windows, h w, C), and the number of tokens that a merge leaves of each, and returns
    as many windows of as many tokens.
    """
    rows, cols = (tile_axis(*sides) for sides in zip(grid, source, target))
    return _map_tiles(tokens, grid, [[(row, col) for col in cols] for row in rows],
                      lambda windows, tiles: function(windows, tiles[0].merged * tiles[1].merged))


def _map_tiles(tokens: Tensor, grid: Grid, lines: Sequence[Sequence[Any]],
               function: Callable[[Tensor, Any], Tensor]) -> Tensor:
    """A function of tiles, and of the entry of ``lines`` that begins with their rows and columns, put side by side."""
    x = tokens_to_map(tokens, grid)

    def through(entry: Any) -> Tensor:
        rows, cols = entry[:2]
        part = _cut(x, rows, cols)
        tiles = function(_to_tiles(part, rows.repeat, cols.repeat), entry)
        return _from_tiles(tiles, part, rows.repeat, cols.repeat, (rows.size, cols.size))

    return map_to_tokens(_cat([_cat([through(entry) for entry in line], 3) for line in lines], 2))


def _cut(x: Tensor, r: AxisTile, c: AxisTile) -> Tensor:
    """The part of a (B, C, H, W) map that tiles cover."""
    return x[:, :, r.start:r.start + r.size * r.repeat, c.start:c.start + c.size * c.repeat]


def _merge_line(x: Tensor, line: Sequence[Region]) -> Tensor:
    """Merge the part of a (B, C, H, W) map that regions side by side cover."""
    return _cat([_apply_to_tiles(_cut(x, r, c), r.repeat, c.repeat, (r.merged, c.merged), merge)
                 for r, c, merge, _ in line], 3)


def _unmerge_line(y: Tensor, line: Sequence[Region]) -> Tensor:
    """The way back for the merged part, (B, C, h', W'), of regions side by side."""
    parts, left = [], 0
    for rows, cols, _, unmerge in line:
        width = cols.repeat * cols.merged
        parts.append(_apply_to_tiles(
            y[..., left:left + width], rows.repeat, cols.repeat, (rows.size, cols.size), unmerge.transpose(-2, -1)))
        left += width
    return _cat(parts, 3)


def _cut_rows(x: Tensor, bands: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Cut contiguous maps, (..., H, W), into bands of so many rows of windows, n cells each: (... rows, n)."""
    parts = x.view(-1, x.shape[-2] * x.shape[-1]).split([rows * n for rows, n in bands], 1)
    return [part.reshape(-1, n) for part, (_, n) in zip(parts, bands)]


def _join_rows(parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Maps of ``shape``, (..., H, W), from their bands."""
    maps = math.prod(shape[:-2])
    return _cat([part.reshape(maps, -1) for part in parts], 1).view(shape)


def _cat(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Parts side by side; a single one without the copy that torch.cat makes."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)
