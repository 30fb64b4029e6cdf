"""Weights of other projects under the names of mmltm's classifiers."""

from .conversion import SOURCES, Conversion, backbone_weights, convert
from .files import read_weights, write_checkpoint

__all__ = ['SOURCES', 'Conversion', 'backbone_weights', 'convert', 'read_weights', 'write_checkpoint']
