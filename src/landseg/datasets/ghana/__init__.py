"""Crop types in Ghana: small fields of 2017, two years of Sentinel-2, and clouds on most days.

- What: about 4,040 chips of 64 × 64 px of 10 m. Each has a label raster of crops in 2017, Sentinel-2 images of 2016 and
  2017 (ten bands in one file per date: blue, green, red, red edge 1 to 3, near infrared, red edge 4, short-wave
  infrared 1 and 2) and a cloud mask per date: 0 clear, 1 cloud, 2 and 3 haze and shadow (publications disagree on the
  order; only 0 counts as clear). Sentinel-1 and Planet images of the dataset are not used.
- Where: northern Ghana. Chip ids are random and positions displaced by up to 3 km, so neighbouring chips are unknown:
  splits follow the published lists, or the chip ids.
- Sources: Radiant MLHub (su_african_crops_ghana), now closed; Source Cooperative (stanford/africa-crops-ghana), without
  STAC catalog and CRS.
- Licence: CC BY-SA 4.0. Citation: R. Rustowicz, R. Cheong, L. Wang, S. Ermon, M. Burke, D. Lobell, "Semantic
  Segmentation of Crop Type in Africa: A Novel Dataset and Analysis of Deep Learning Methods", CVPR Workshops 2019,
  doi:10.34911/rdnt.ry138p.

Classes are the 24 crops of the publisher's table; 0, unknown, is ignored unless dataset.score_unknown is true.
"""
