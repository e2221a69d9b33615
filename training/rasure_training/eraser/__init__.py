"""Learned erasing: data, training, conversion and evaluation of eraser adapters (steer and bridge)."""
