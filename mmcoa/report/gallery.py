"""The page "Gallery": the pictures of results/STUDY/gallery with prompts and predictions, as HTML that needs no network.

Nothing is computed here but sums of what gallery.json says; `mmcoa gallery STUDY` makes it.
"""

import json
import shutil
from html import escape
from pathlib import Path

import pandas as pd

from mmcoa.attacks.words import split_words
from mmcoa.errors import UserError
from mmcoa.report.names import attack_label, dataset_label, listed, method_label


def folder_of(study, results="results"):
    """results/STUDY/gallery."""
    return Path(results) / study / "gallery"


def there(folder):
    """Whether there is a gallery in the folder."""
    return (Path(folder) / "gallery.json").is_file()


def load(folder):
    """What gallery.json of a folder holds. Raises `UserError` where it is missing or damaged, or a sheet is not there."""
    path = Path(folder) / "gallery.json"
    try:
        content = json.loads(path.read_text(encoding="utf8"))
        absent = [sheet["file"] for sheet in content["sheets"].values() if not (path.parent / sheet["file"]).is_file()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"no readable gallery {path} ({type(error).__name__}: {error}); make it: mmcoa gallery STUDY"
        ) from error
    if absent:
        raise UserError(f"{path.parent} lacks {absent[0]}, of which {path.name} speaks; make it again: mmcoa gallery STUDY")
    return content


def attribution(content, dataset):
    """Who made the pictures of a data set. Raises `UserError` for one of which the gallery does not say it."""
    for one in content["datasets"]:
        if one["name"] == dataset:
            return one["attribution"]
    raise UserError(f"pictures of '{dataset}' may not be shown: the gallery does not say under which licence they are")


def copy_sheets(content, folder, target):
    """Copy the sheets of pictures of a gallery's folder beside the page; sheets of an earlier gallery go."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for sheet in content["sheets"].values():
        shutil.copyfile(Path(folder) / sheet["file"], target / sheet["file"])


def model_label(model):
    """`undefended`; `MMCoA, seed 0`; an entry with a name of its own keeps that."""
    name, _, seed = model["name"].partition("-seed")
    return f"{method_label(name)}, seed {seed}" if seed else method_label(model["defense"])


def kinds_table(content):
    """The kinds of pictures: among those that were looked at, and among those that are shown."""
    right = sum(one["right"] for one in content["choice"])
    rows = []
    for kind, text in content["kinds"].items():
        found, shown = (sum(one[key][kind] for one in content["choice"]) for key in ("kinds", "shown"))
        rows.append(
            {
                "undefended model": text,
                "pictures": str(found),
                "share": f"{100 * found / right:.0f} %",
                "shown here": str(shown),
            }
        )
    return pd.DataFrame(rows)


def models_table(content):
    """Of the pictures shown: how many each model gets right under each attack."""
    n, rows = len(content["examples"]), []
    for model in content["models"]:
        made = [one["models"][model["name"]]["attacks"] for one in content["examples"]]
        right = {attack: sum(attacks[attack]["correct"] for attacks in made) for attack in content["attacks"]}
        row = {
            "model": model_label(model),
            "trained on": dataset_label(model["trained_on"]) if model["trained_on"] else "–",
            "n": str(n),
        }
        rows.append(row | {attack_label(attack): str(count) for attack, count in right.items()})
    return pd.DataFrame(rows)


def facts(content, study):
    """Numbers and phrases of the page's prose."""
    choice, made, compared = content["choice"], content["provenance"], content["compared"]
    looked = sorted({one["pictures"] for one in choice})
    first = content["models"][0]
    sets = list(dict.fromkeys(one["dataset"] for one in content["examples"]))
    labels = {model["name"]: model_label(model) for model in content["models"]}
    differ = [
        f"{labels[one['model']]}, {dataset_label(one['dataset'])}, picture {one['sample_id']}, {attack_label(one['attack'])}"
        for one in compared["differ"]
    ]
    return {
        "gallery_study": study,
        "gallery_shown": str(len(content["examples"])),
        "gallery_sets": str(len(sets)),
        "gallery_models": listed(model_label(model) for model in content["models"]),
        "gallery_base": first["base_model"],
        "gallery_trained_on": listed(
            dict.fromkeys(dataset_label(one["trained_on"]) for one in content["models"] if one["trained_on"])
        )
        or "nothing beyond pre-training",
        "gallery_threat": first["description"],
        "gallery_amplified": f"{content['amplified']:g}",
        "gallery_split": content["settings"]["split"],
        "gallery_looked": " or ".join(map(str, looked)),
        "gallery_looked_all": str(sum(one["pictures"] for one in choice)),
        "gallery_right": str(sum(one["right"] for one in choice)),
        "gallery_compared": same(compared, labels, differ),
        "gallery_commit": (made["git_commit"] or "unknown")[:7] + (" with local changes" if made["git_dirty"] else ""),
        "gallery_made": f"torch {made['versions']['torch']}, {made['device']}",
        "gallery_credits": "; ".join(dict.fromkeys(attribution(content, name) for name in sets)),
    }


def same(compared, labels, differ):
    """Whether the outcomes are those that the study stored, as a sentence."""
    if not compared["outcomes"]:
        return "The study has stored no outcome of the same models under the same attacks to compare with."
    models = listed(labels[name] for name in compared["models"])
    named = f": {'; '.join(differ)}" if differ else ""
    what = (
        f"Of {compared['outcomes']:,} outcomes that the study has stored for the same models ({models}), pictures and attacks"
    )
    return f"{what}, {len(differ)} came out otherwise here{named}."


def page(content, pictures):
    """The gallery as HTML.

    Arguments:
        pictures: folder of the sheets, relative to the page.

    Raises `UserError` for a picture that may not be shown.
    """
    parts = ['<div class="gallery">', choosers(content)]
    parts += [example(content, one, pictures) for one in content["examples"]]
    return "\n".join([*parts, SCRIPT, "</div>"])


def choosers(content):
    """What the reader may choose by; hidden where no script runs."""
    sets = {one["dataset"]: dataset_label(one["dataset"]) for one in content["examples"]}
    kinds = {kind: text for kind, text in content["kinds"].items() if any(one["kind"] == kind for one in content["examples"])}
    lists = ""
    for name, label, values in (("dataset", "Data set", sets), ("kind", "Undefended model", kinds)):
        options = "".join(f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in values.items())
        lists += f'<label>{label} <select name="{name}"><option value="">all</option>{options}</select></label>'
    return f'<form hidden aria-label="Choose pictures">{lists}<output aria-live="polite"></output></form>'


def example(content, one, pictures):
    """One picture: a heading, then a row of panels a model."""
    attribution(content, one["dataset"])
    where = f"{dataset_label(one['dataset'])}, picture {one['sample_id']} of the split {one['split']}"
    where += f"; undefended model: {content['kinds'][one['kind']]}"
    rows = "\n".join(row(content, one, model, pictures) for model in content["models"])
    return (
        f'<section class="example" data-dataset="{escape(one["dataset"])}" data-kind="{escape(one["kind"])}">\n'
        f"<h3>{escape(one['class_name'])}</h3>\n<p>{escape(where)}</p>\n{rows}\n</section>"
    )


def row(content, one, model, pictures):
    """What one model makes of one picture."""
    made, label = one["models"][model["name"]], model_label(model)
    panels = "".join(panel(content, one, model, attack, pictures) for attack in content["attacks"])
    was, now = (marked(made[key], made["edits"], style) for key, style in (("prompt", "was"), ("adversarial_prompt", "now")))
    said = (
        f"Prompt: {was}. After the text attack: {now}."
        if made["edits"]
        else f"Prompt: {was}. The text attack leaves it as it is."
    )
    return f'<figure>\n<figcaption><b>{escape(label)}</b>{said}</figcaption>\n<div class="panels">{panels}</div>\n</figure>'


def marked(prompt, edits, style):
    """The prompt, escaped, its edited words in a span of that class."""
    positions, words = {edit["position"] for edit in edits}, []
    for at, word in enumerate(split_words(prompt)):
        core = f'<span class="{style}">{escape(word.core)}</span>' if at in positions else escape(word.core)
        words.append(escape(word.prefix) + core + escape(word.suffix))
    return " ".join(words)


TITLES = {"clean": "no attack", "image": "image attack", "text": "text attack", "sequential": "both, text first"}


def panel(content, one, model, attack, pictures):
    """One attack: verdict, pictures, predictions."""
    found = one["models"][model["name"]]["attacks"][attack]
    mark = '<span class="right">✓ right</span>' if found["correct"] else '<span class="wrong">✗ wrong</span>'
    title = TITLES.get(attack, attack_label(attack))
    says = f"{model_label(model)}, {title}: says {found['top'][0][0]} with {percent(found['top'][0][1])}"
    if "picture" in found:
        tiles = tile(content, model["name"], found["picture"], f"{one['class_name']}, adversarial picture. {says}.", pictures)
        tiles += tile(
            content,
            model["name"],
            found["perturbation"],
            f"Perturbation of the picture before, times {content['amplified']:g}, around grey.",
            pictures,
        )
    else:
        tiles = tile(content, "clean", one["clean"], f"{one['class_name']}, clean picture. {says}.", pictures)
    return f'<div><p class="verdict">{title} {mark}</p><div class="tiles">{tiles}</div>{predictions(one, found)}</div>\n'


def tile(content, name, box, text, pictures):
    """One picture of a sheet: a window on it."""
    sheet = content["sheets"][name]
    left, top, width, height = box
    place = f"--w:{100 * sheet['width'] / width:g}%;--x:{-100 * left / width:g}%;--y:{-100 * top / height:g}%"
    source = escape(f"{pictures}/{sheet['file']}")
    return f'<span class="tile"><img src="{source}" alt="{escape(text)}" loading="lazy" style="{place}"></span>'


def predictions(one, found):
    """The likeliest classes with bars, the true class where it is not among them, and the sum of the rest."""
    names = [name for name, _ in found["top"]]
    lines = [(name, probability, "own" if name == one["class_name"] else "") for name, probability in found["top"]]
    rest = found["others"]
    if one["class_name"] not in names:
        own = found["label"]["probability"]
        lines.append((f"{one['class_name']} (rank {found['label']['rank']})", own, "own"))
        rest = max(0.0, rest - own)
    lines.append(("all others", rest, "rest"))
    items = "".join(
        f"<li{f' class={style}' if style else ''}><b>{escape(name)}</b> <span>{escape(percent(probability))}</span><i "
        f"style=width:{100 * probability:.1f}%></i></li>"
        for name, probability, style in lines
    )
    return f"<ol>{items}</ol>"


def percent(probability):
    """`93 %`, `1.4 %`, `< 0.1 %`."""
    value = 100 * probability
    if value < 0.1:
        return "<\u00a00.1\u00a0%"
    return f"{value:.0f}\u00a0%" if value >= 9.95 else f"{value:.1f}\u00a0%"


SCRIPT = """<script>
(() => {
  const gallery = document.currentScript.parentElement;
  const form = gallery.querySelector("form");
  const examples = [...gallery.querySelectorAll(".example")];
  const choose = () => {
    const wanted = [...form.querySelectorAll("select")];
    for (const one of examples) one.hidden = wanted.some((list) => list.value && one.dataset[list.name] !== list.value);
    form.querySelector("output").textContent = `${examples.filter((one) => !one.hidden).length} of ${examples.length} pictures`;
  };
  form.addEventListener("change", choose);
  form.hidden = false;
  choose();
})();
</script>"""
