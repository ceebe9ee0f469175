"""The type and the limits of every knob, a file for each part of a config; `configs/base.py` has the values."""
