"""What exported networks say of images: predictions, and how good they are."""
