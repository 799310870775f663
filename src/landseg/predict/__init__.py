"""Prediction: land-cover maps of whole scenes of any size."""
