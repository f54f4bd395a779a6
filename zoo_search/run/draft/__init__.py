"""A run file to start from: what a folder of images and this machine suggest."""
