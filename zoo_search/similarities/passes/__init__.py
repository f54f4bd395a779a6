"""The two passes of the step: images to Gram files, Gram files to products."""
