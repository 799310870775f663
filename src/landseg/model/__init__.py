"""Segmentation models: network, weights, metadata, devices."""
