"""Reduce the height and width of pairs of images and masks, by default to a quarter: `python reduce.py FROM TO [4]`.

Images are averaged over squares of 4 px. Masks keep every fourth pixel of every fourth row, so no new colours appear.
"""

import sys
from pathlib import Path

from PIL import Image


def main(source: Path, target: Path, factor: int = 4) -> None:
    """Reduce all pairs in a folder."""
    for folder in ("images", "masks"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("images/image*.jpg")):
        with Image.open(path) as image:
            width, height = (side // factor for side in image.size)
            box = (0, 0, width * factor, height * factor)
            smaller = image.convert("RGB").resize((width, height), Image.Resampling.BOX, box)
        smaller.save(target / "images" / f"{path.stem}.png")
        mask_path = source / "masks" / f"{path.stem.replace('image', 'mask')}.png"
        with Image.open(mask_path) as mask:
            smaller = mask.convert("RGB").resize((width, height), Image.Resampling.NEAREST, box)
        smaller.save(target / "masks" / mask_path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
