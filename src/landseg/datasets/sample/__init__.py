"""A generated set in the shape of LandCover.ai, so that the pipeline runs whole without a download.

Scenes are RGB orthophotos of 0.5 m pixels that show invented land: fields, woods, rivers and lakes,
roads, villages. Classes, ids and colours are those of LandCover.ai; some scenes lie under clouds,
for the filter to find. Every pixel follows from `dataset.seed`. Nobody's land is shown, so the
licence is CC0-1.0.
"""
