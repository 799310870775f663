"""Reduce pairs of pictures and masks to a quarter of their height and width: `python reduce.py FROM TO`.

Pictures are averaged over squares of 4 px; of a mask every fourth pixel of every fourth row is kept, so that no
colour comes up that was not there.
"""

import sys
from pathlib import Path

from PIL import Image

FACTOR = 4


def main(source: Path, target: Path) -> None:
    """Reduce all pairs of a folder."""
    for folder in ("images", "masks"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("images/image*.jpg")):
        with Image.open(path) as picture:
            width, height = (side // FACTOR for side in picture.size)
            box = (0, 0, width * FACTOR, height * FACTOR)
            smaller = picture.convert("RGB").resize((width, height), Image.Resampling.BOX, box)
        smaller.save(target / "images" / f"{path.stem}.png")
        mask_path = source / "masks" / f"{path.stem.replace('image', 'mask')}.png"
        with Image.open(mask_path) as mask:
            smaller = mask.convert("RGB").resize((width, height), Image.Resampling.NEAREST, box)
        smaller.save(target / "masks" / mask_path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
