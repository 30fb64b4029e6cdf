"""Weights of other projects under the names of mmltm's classifiers."""

from .conversion import SOURCES, Conversion, convert
from .files import read_weights, write_checkpoint

__all__ = ['SOURCES', 'Conversion', 'convert', 'read_weights', 'write_checkpoint']
