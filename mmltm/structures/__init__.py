"""What targets are to the mask modules: class distributions of images and windows."""
