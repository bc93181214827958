"""`mmcoa gallery PROFILE`: the gallery of a study, made by `notebooks/gallery.ipynb` with the profile's models and settings."""

from pathlib import Path

from mmcoa.errors import UserError, unknown
from mmcoa.study.cells import study_models
from mmcoa.study.gallery.identity import SETTINGS, gallery_hash, is_current, path_of, read
from mmcoa.study.gallery.showable import SHOWABLE, may_show
from mmcoa.study.notebooks import notebook
from mmcoa.study.papermill_run import NotebookFailed, run_notebook
from mmcoa.study.profiles import load_profile
from mmcoa.study.sources import checkpoint_cell

DEFENSES = ("tecoa", "image_only", "mmcoa")  # shown beside the undefended model, where their seed 0 is here
SIZES = {"examples": 15, "pictures": 24}


def gallery(profile, models=(), device=None, results=Path("results"), runs=Path("runs"), echo=print):
    """Make the gallery of a profile, unless the one that is stored is made of the same; returns the path of gallery.json.

    Arguments:
        models: ids of the study's models, or entries of the profile for their seed 0; default: those of `DEFENSES`.
        device: default: the profile's.

    A fine-tuned model whose checkpoint is not here, or is not the current train cell's, is named and left out. Raises `UserError` for an
    unknown model, where the undefended model is not here, and where the profile has no data set whose pictures may be shown.
    """
    loaded = load_profile(profile)
    folder = Path(results) / loaded.name
    chosen, missing = chosen_models(profile, models, results, runs)
    if missing:
        echo(f"left out, no current checkpoint here: {', '.join(missing)} (mmcoa run {profile} trains them)")
    parameters = parameters_of(loaded, chosen)
    made_of = gallery_hash(parameters["models"], asked(parameters))
    if is_current(folder, made_of):
        echo(f"gallery: {path_of(folder)} is up to date")
        return path_of(folder)
    told = {**parameters, "device": device or loaded.device, "output": str(folder)}
    told["dataset"] = told.pop("datasets")
    try:
        run_notebook(notebook("gallery"), folder / "notebooks" / "gallery.ipynb", told)
    except NotebookFailed as failure:
        raise UserError(f"no gallery: {failure} (see {failure.notebook})") from failure
    for line in said(read(folder), folder):
        echo(line)
    return path_of(folder)


def chosen_models(profile, wanted, results, runs):
    """([`StudyModel`], the undefended one first; names of those that are not here)."""
    study = study_models(profile, runs, results)
    base = next((model for model in study if model.train is None), None)
    if base is None:
        raise UserError(
            f"a gallery starts from the undefended model, which profile '{profile}' lacks; add {{defense: none}} to its models"
        )
    if base.base is not None and checkpoint_cell(base.path) != base.base.hash:
        raise UserError(f"the base model of '{profile}' is not in {base.path}; make it with: mmcoa run {profile}")
    trained = {model.name: model for model in study if model.train is not None}
    names = [named(name, trained) for name in wanted if name != base.name] or [
        f"{name}-seed0" for name in DEFENSES if f"{name}-seed0" in trained
    ]
    here = [name for name in dict.fromkeys(names) if checkpoint_cell(trained[name].path) == trained[name].train.hash]
    return [base, *(trained[name] for name in here)], [name for name in names if name not in here]


def named(name, trained):
    """The id of a fine-tuned model, from itself or from its entry in the profile."""
    found = next((one for one in (name, f"{name}-seed0") if one in trained), None)
    if found is None:
        raise unknown("model", name, trained)
    return found


def parameters_of(profile, models):
    """Parameters of the notebook: the profile's evaluation, on the data sets whose pictures may be shown."""
    evaluation = profile.evaluate.model_dump()
    datasets = [name for name in evaluation["datasets"] if may_show(name)]
    if not datasets:
        raise UserError(
            f"profile '{profile.name}' evaluates no data set whose pictures may be shown ({', '.join(SHOWABLE)}): no gallery"
        )
    settings = {name: evaluation[name] for name in SETTINGS}
    return {
        "models": {model.name: model.path for model in models},
        "datasets": datasets,
        **SIZES,
        "resize": profile.resize,
        **settings,
    }


def asked(parameters):
    """What `run_gallery` hashes."""
    return {name: value for name, value in parameters.items() if name != "models"}


def said(content, folder):
    """What was made, and whether it agrees with the study: lines to print."""
    place, compared = path_of(folder), content["compared"]
    size = place.stat().st_size + sum((place.parent / sheet["file"]).stat().st_size for sheet in content["sheets"].values())
    models = ", ".join(model["name"] for model in content["models"])
    yield f"gallery: {len(content['examples'])} pictures, {models}; {size / 1e6:.1f} MB in {place.parent}"
    if not compared["outcomes"]:
        yield "compared with no stored outcome: the study has none of these models with these settings"
        return
    yield f"{len(compared['differ'])} of {compared['outcomes']} outcomes differ from the study's ({', '.join(compared['models'])})"
    for one in compared["differ"]:
        was, now = ("right" if one[key] else "wrong" for key in ("stored", "here"))
        yield f"  {one['model']}, {one['dataset']}, sample {one['sample_id']}, {one['attack']}: {was} in the study, {now} here"
