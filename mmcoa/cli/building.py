"""Models that are built at first use: said aloud, with the share that is done, before a command goes on."""

from mmcoa.console import progress_bar
from mmcoa.model import lite


def built(name):
    """The name of a model that is ready to load."""
    if name == lite.NAME:
        from mmcoa.model.lite.build import lite_folder

        with progress_bar(f"{name}: built once, kept in the cache; percent", 100) as advance:
            lite_folder(progress=lambda done, total: advance(100 * done // total))
    return name
