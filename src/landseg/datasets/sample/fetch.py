"""Generate the sample dataset."""

from functools import partial
from pathlib import Path

from landseg.core.parallel import Engine
from landseg.core.tables import scene_table
from landseg.datasets.sample.params import SampleParams as Params
from landseg.datasets.sample.scene import plan_scenes, write_scene
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset


def fetch(dataset: Params, download: DownloadParams, raw: Path, state: Path, engine: Engine) -> RawDataset:
    """Generate the scenes into `raw`: one GeoTIFF per scene in each of images/, masks/ and clouds/.

    Images are (3, size, size) uint8, masks and clouds (1, size, size) uint8. Masks contain class ids; cloud layers 0
    for clear and 1 for cloud.

    Args:
        dataset: seed, number and size of scenes.
        download: not used.
        raw: folder to create.
        state: not used.
        engine: where scenes are computed; it does not change the pixels.
    """
    del download, state  # no file is downloaded
    for folder in ("images", "masks", "clouds"):
        (raw / folder).mkdir(parents=True)
    plans = plan_scenes(dataset.seed, dataset.scenes, dataset.size, dataset.cloudy)
    for _ in engine.map(partial(write_scene, raw=raw), plans, name=lambda plan: plan.scene):
        pass
    rows = [
        {
            "scene": plan.scene,
            "image": f"images/{plan.scene}.tif",
            "mask": f"masks/{plan.scene}.tif",
            "cloud": f"clouds/{plan.scene}.tif",
        }
        for plan in plans
    ]
    return RawDataset(scene_table(rows))
