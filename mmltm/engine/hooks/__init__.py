"""Hooks of mmltm."""

from mmltm.engine.hooks.skipped_images_hook import SkippedImagesHook

__all__ = ['SkippedImagesHook']
