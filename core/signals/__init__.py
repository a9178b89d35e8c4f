"""Devices, channels, points, recordings and latest values: one time series for all that is measured or switched."""
