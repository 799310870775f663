"""LandCoverNet: a year of Sentinel-2 chips with hand-made land-cover labels.

- What: chips of 256 × 256 px of 10 m. Each has a label raster of 2018 (band 1 the class, band 2 the consensus of the
  annotators, 0 to 100) and 70 to 146 dates of Sentinel-2 level 2A: twelve bands of reflectance × 10,000 (uint16,
  nodata 0), cloud probability CLD (%, nodata 255) and scene classification SCL (nodata 0).
- Where: Africa has 1,980 chips, 30 in each of 66 Sentinel-2 tiles; Asia, Australia and Oceania, Europe, North and South
  America have datasets of the same form. Every chip is in the UTM zone of its tile.
- Sources: Radiant MLHub (ref_landcovernet_<region>_v1), now closed; Source Cooperative (radiantearth/landcovernet). The
  layout of Africa at Source Cooperative is inferred from that of Asia and Europe.
- Licence: CC BY 4.0. Citation: H. Alemohammad, K. Booth, "LandCoverNet: A global benchmark land cover classification
  training dataset", arXiv:2012.03111; Africa: doi:10.34911/rdnt.d2ce8i.

| id | class |
|---|---|
| 0 | unknown: no agreement on a class; ignored unless dataset.score_unknown is true |
| 1 | water |
| 2 | artificial bare ground |
| 3 | natural bare ground |
| 4 | permanent snow or ice |
| 5 | woody vegetation |
| 6 | cultivated vegetation |
| 7 | (semi) natural vegetation |
"""
