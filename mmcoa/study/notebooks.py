"""Where the notebooks of a study lie: in the checkout, or inside the installed package (the wheel carries them)."""

from pathlib import Path

from mmcoa.errors import UserError

PACKAGE = Path(__file__).parent.parent


def notebook(name: str) -> Path:
    """Path of a notebook, such as `evaluate`. Raises `UserError` where there is none of that name.

    In a checkout of this project it is the one in ./notebooks, relative, so that an edited copy is what runs; anywhere else
    the one that came with the package.
    """
    folders = [Path("notebooks")] if _is_checkout(Path()) else []
    folders += [PACKAGE / "notebooks", PACKAGE.parent / "notebooks"]  # of a wheel, of an editable install
    for folder in folders:
        if (path := folder / f"{name}.ipynb").is_file():
            return path
    raise UserError(f"no notebook {folders[0] / name}.ipynb; install mmcoa anew, or run from a checkout of it")


def _is_checkout(folder: Path) -> bool:
    """Whether `folder` is the root of this project: somebody else's notebooks/evaluate.ipynb must not run in our place."""
    project = folder / "pyproject.toml"
    return project.is_file() and '\nname = "mmcoa"\n' in project.read_text(encoding="utf8")
