"""LandCover.ai v1: buildings, woodland, water and roads in aerial photographs of rural Poland.

- What: 41 orthophotos, GeoTIFF, red, green and blue, 8 bits, each with a single-band mask of class ids, labelled by
  hand; 216 km² in total.
- Where: Poland. 33 at 0.25 m (about 9000 × 9500 px), 8 at 0.5 m (about 4200 × 4700 px), in the transverse Mercator
  projection of EPSG:2180 but on WGS 84, so the files have no EPSG code.
- Splits: the publisher's lists name 10,674 tiles of 512 px, 70:15:15. Every orthophoto has tiles in all three splits,
  so a score on them does not measure how a model transfers to a new location.
- Source: https://landcover.ai.linuxpolska.com, one ZIP of about 1.5 GB.
- Licence: CC BY-NC-SA 4.0: attribution, no commercial use, derivatives under the same licence. Whether a trained model
  is a derivative is not settled: ask the publisher before commercial use.
- Citation: A. Boguszewski, D. Batorski, N. Ziemba-Jankowska, T. Dziedzic, A. Zambrzycka, "LandCover.ai: Dataset for
  Automatic Mapping of Buildings, Woodlands, Water and Roads from Aerial Imagery", CVPR Workshops 2021,
  pages 1102-1110, arXiv:2005.02264.

| id | class | share of tiled pixels |
|---|---|---|
| 0 | background | 58.1 % |
| 1 | building | 0.9 % |
| 2 | woodland | 33.1 % |
| 3 | water | 6.3 % |
| 4 | road | 1.6 % |
"""
