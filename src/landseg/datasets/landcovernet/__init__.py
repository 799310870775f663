"""LandCoverNet: a year of Sentinel-2 over chips of land cover, labelled by people.

- What: chips of 256 × 256 px of 10 m. Each has one label raster of 2018, band 1 the class, band 2 how far
  annotators agreed (consensus, 0 to 100), and 70 to 146 dates of Sentinel-2 level 2A: twelve bands of
  reflectance × 10,000 (uint16, no data 0), cloud probability CLD (%, no data 255) and scene
  classification SCL (no data 0).
- Where: for Africa 1,980 chips, 30 in each of 66 Sentinel-2 tiles; sets of the same shape for Asia, Australia
  and Oceania, Europe, North and South America. Every chip lies in the UTM zone of its tile.
- Sources: Radiant MLHub (ref_landcovernet_<region>_v1), which closed; its data moved to Source Cooperative
  (radiantearth/landcovernet). For Africa the layout there is inferred from that of Asia and Europe.
- Licence: CC BY 4.0. Citation: H. Alemohammad, K. Booth, "LandCoverNet: A global benchmark land cover
  classification training dataset", arXiv:2012.03111; Africa: doi:10.34911/rdnt.d2ce8i.

| id | class |
|---|---|
| 0 | unknown: no class was agreed on; ignored unless dataset.score_unknown |
| 1 | water |
| 2 | artificial bare ground |
| 3 | natural bare ground |
| 4 | permanent snow or ice |
| 5 | woody vegetation |
| 6 | cultivated vegetation |
| 7 | (semi) natural vegetation |
"""
