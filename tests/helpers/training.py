"""Tiny training runs."""

from helpers.tiles import model_info

from landseg.train.module import OptimizerConfig

INFO = model_info()


SCHEDULE = OptimizerConfig("adam", 1e-3, 0.0, step=2, factor=0.5)
