"""Training of networks on images: schedules, augmentation and the loop."""
