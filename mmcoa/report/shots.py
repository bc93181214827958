"""Fine-tuning on one data set with few pictures of each class or with all of them, judged on its test pictures."""

import pandas as pd

from mmcoa.report import statistics, tables
from mmcoa.report.names import METHODS, attack_label, dataset_label, method_label, ordered

ALL = "all"
ATTACKS = ("clean", "image", "text")


def numbers(study):
    """Points gained on the undefended model: one row a data set, method, number of shots (text, ALL for all) and attack."""
    judged, frames = study.rows[study.rows.trained_on == study.rows.dataset], []
    few = {name.partition("-")[0] for name in judged.method if "shot" in name}
    for name, own in judged[judged.method.str.partition("-")[0].isin(few)].groupby("dataset", sort=False):
        found = statistics.gains(study, (name,), attacks=ATTACKS, methods=list(own.method.unique()))
        shots = found.method.str.extract(r"-(\d+)shot")[0].fillna(ALL)
        frames.append(found.assign(dataset=name, shots=shots, method=found.method.str.partition("-")[0]))
    return pd.concat(frames, ignore_index=True)


def curve(study):
    """What `plots.curves` draws: points gained by the number of shots (`x`), one `panel` a data set and attack."""
    frame = numbers(study).query("shots != @ALL")
    panel = frame.dataset.map(dataset_label) + ", " + frame.attack.map(attack_label)
    return frame.assign(x=frame.shots.astype(int), panel=panel)


def table(study):
    """(shown, numbers): one row a data set and number of shots, a column a method and attack."""
    frame, rows = numbers(study), []
    columns = [(method, attack) for method in ordered(frame.method, METHODS) for attack in ATTACKS]
    for name, of in frame.groupby("dataset", sort=True):
        for shots in ordered(of.shots, ()):
            own = {(each.method, each.attack): each for each in of[of.shots == shots].itertuples()}
            row = {"data set": dataset_label(name), "pictures a class": shots, "n": f"{int(of.n.max()):,}"}
            told = {key: tables.gain(own[key]) if key in own else tables.DASH for key in columns}
            rows.append(
                row | {f"{method_label(method)}, {attack_label(attack)}": told[method, attack] for method, attack in columns}
            )
    return pd.DataFrame(rows), frame
