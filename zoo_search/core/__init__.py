"""What everything stands on: errors, files, progress, names, identity. It knows nothing of ours."""
