"""Generated orthophotos modelled on LandCover.ai, to run the pipeline without a download.

- What: RGB scenes of 0.5 m pixels with invented fields, woodland, rivers, lakes, roads and villages, masks of class
  ids, and cloud layers; some scenes are cloudy. All pixels follow from `dataset.seed`.
- Where: nowhere; scenes are placed in Poland (EPSG:2180).
- Licence: CC0-1.0.

Classes, ids and colours are those of LandCover.ai.
"""
