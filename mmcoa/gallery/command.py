"""`mmcoa gallery PROFILE`: the gallery of a study, made by `notebooks/gallery.ipynb` with the profile's models and settings."""

from pathlib import Path

from mmcoa.errors import UserError, unknown
from mmcoa.gallery.identity import SETTINGS, gallery_identity, is_current, path_of, read
from mmcoa.gallery.showable import SHOWABLE, may_show
from mmcoa.study.papermill_run import NotebookFailed, run_notebook
from mmcoa.study.plan import make_plan, notebook

DEFENSES = ("tecoa", "image_only", "mmcoa")  # shown beside the undefended model, where their seed 0 is here
SIZES = {"examples": 15, "pictures": 24}


def gallery(profile, models=(), device=None, results=Path("results"), runs=Path("runs"), echo=print):
    """Make the gallery of a profile, unless the one that is stored is made of the same; returns the path of gallery.json.

    Arguments:
        models: ids of the study's models, or entries of the profile for their seed 0; default: those of `DEFENSES`.
        device: default: the profile's.

    A fine-tuned model whose checkpoint is not here, or is not the current train cell's, is named and left out. Raises
    `UserError` for an
    unknown model, where the undefended model is not here, and where the profile has no data set whose pictures may be shown.
    """
    plan = make_plan(profile, results, runs)
    folder = plan.results
    chosen, missing = chosen_models(plan, models)
    if missing:
        echo(f"left out, no current checkpoint here: {', '.join(missing)} (mmcoa run {profile} trains them)")
    parameters = parameters_of(plan.profile, chosen)
    made_of = gallery_identity(parameters["models"], asked(parameters))
    if is_current(folder, made_of):
        echo(f"gallery: {path_of(folder)} is up to date")
        return path_of(folder)
    told = {**parameters, "device": device or plan.profile.device, "output": str(folder)}
    told["dataset"] = told.pop("datasets")
    try:
        run_notebook(notebook("gallery"), plan.runs / "notebooks" / "gallery.ipynb", told)
    except NotebookFailed as failure:
        raise UserError(f"no gallery: {failure} (see {failure.notebook})") from failure
    for line in said(read(folder), folder):
        echo(line)
    return path_of(folder)


def chosen_models(plan, wanted):
    """({id: path} of the models, the undefended one first; names of those that are not here)."""
    judged = {process.cells[0].model: process for process in plan.processes if process.kind == "evaluate"}
    trained = {name: process for name, process in judged.items() if process.maker and process.maker.startswith("train__")}
    base = next((name for name in judged if name not in trained), None)
    name = plan.profile.name
    if base is None:
        raise UserError(
            f"a gallery starts from the undefended model, which profile '{name}' lacks; add {{defense: none}} to its models"
        )
    if not judged[base].has_model:
        raise UserError(f"the base model of '{name}' is not in {judged[base].model}; make it with: mmcoa run {name}")
    names = [named(one, trained) for one in wanted if one != base] or [
        f"{one}-seed0" for one in DEFENSES if f"{one}-seed0" in trained
    ]
    here = [one for one in dict.fromkeys(names) if trained[one].has_model]
    return {one: judged[one].model for one in (base, *here)}, [one for one in names if one not in here]


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
        "models": models,
        "datasets": datasets,
        **SIZES,
        "resize": profile.resize,
        **settings,
    }


def asked(parameters):
    """What `run_gallery` identifies a gallery by."""
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
    yield (
        f"{len(compared['differ'])} of {compared['outcomes']} outcomes differ from the study's "
        f"({', '.join(compared['models'])})"
    )
    for one in compared["differ"]:
        was, now = ("right" if one[key] else "wrong" for key in ("stored", "here"))
        yield f"  {one['model']}, {one['dataset']}, sample {one['sample_id']}, {one['attack']}: {was} in the study, {now} here"
