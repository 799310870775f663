"""Crop types in Ghana: small fields of 2017, two years of Sentinel-2, and clouds on most days.

- What: about 4,040 chips of 64 × 64 px of 10 m. Each has a label raster of crops in 2017, Sentinel-2 of 2016 and
  2017 (ten bands in one file a date, in the order blue, green, red, red edge 1 to 3, near infrared, red edge 4,
  short-wave infrared 1 and 2) and a cloud mask a date: 0 clear, 1 cloud, 2 and 3 haze and shadow (sources disagree
  on which is which; only 0 counts as clear). Sentinel-1 and Planet imagery of the set is not used here.
- Where: northern Ghana. Ids are drawn at random and positions moved by up to 3 km, so nothing can be said of which
  chips are neighbours: parts are made by the published lists, or by id.
- Sources: Radiant MLHub (su_african_crops_ghana), which closed; its data moved to Source Cooperative
  (stanford/africa-crops-ghana), without STAC and without a CRS.
- Licence: CC BY-SA 4.0. Citation: R. Rustowicz, R. Cheong, L. Wang, S. Ermon, M. Burke, D. Lobell, "Semantic
  Segmentation of Crop Type in Africa: A Novel Dataset and Analysis of Deep Learning Methods", CVPR Workshops 2019,
  doi:10.34911/rdnt.ry138p.

Classes are the 24 crops of the publisher's table; 0, unknown, is ignored unless dataset.score_unknown.
"""
