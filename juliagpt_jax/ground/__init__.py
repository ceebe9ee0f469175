"""The ground that every room stands on: errors, files, devices, knobs, config, the frame of a command."""
