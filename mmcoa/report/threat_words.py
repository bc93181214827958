"""Threat models in words, one attack at a time: what it does, what the adversary knows, and its budget."""

import re
from dataclasses import fields

from mmcoa.attacks import catalog
from mmcoa.report.names import KNOWS, source_label
from mmcoa.report.results import threat_of
from mmcoa.report.sweeps import changes_what, merged, symbols
from mmcoa.threat import ThreatModel, parse_epsilon

# Settings that a result row states, and the queries of a black box.
COLUMNS = [field.name for field in fields(ThreatModel) if field.name not in ("apgd_steps", "attacker_images", "seed")]


def attack_words(name):
    """(what it does, what it changes, what the adversary knows)."""
    summary = catalog.ATTACKS[name].summary if name in catalog.ATTACKS else name
    return summary[0].upper() + summary[1:], changes_what(name), KNOWS.get(name, "–")


def threats(values, attacks):
    """{place of an attack: its threat model in words}; what varies, with the data set or over a sweep, as a range.

    values: {value: Study} of a sweep.
    """
    found, order = {}, sorted(values, key=parse_epsilon) if len(values) > 1 and all(map(is_number, values)) else list(values)
    for k, attack in enumerate(attacks):
        rows = [values[value].rows for value in order]
        rows = [part[part.attack == attack].sort_values("targets", kind="stable") for part in rows]
        texts = dict.fromkeys(halves(row) for part in rows for row in part.drop_duplicates(COLUMNS).to_dict("records"))
        if texts:
            found[k] = symbols(merged(list(texts))) or "none"
    return found


def is_number(value):
    """Whether a sweep's value is one, such as 2/255."""
    return bool(re.fullmatch(r"[\d./]+", str(value)))


def halves(row):
    """What a row's adversary may do to picture and prompts; empty for no attack."""
    threat, source = threat_of(row), row["candidate_source"]
    image, text = threat.describe_image() if row["epsilon"] > 0 else "", threat.describe_text() if source else ""
    if row["queries"] > 0 and not row["steps"] > 0:
        image = re.sub(r", \d+ steps? of .*", f", {int(row['queries']):,} queries", image)
    elif not row["step_size"] > 0:
        image = re.sub(r"( steps?) of [^,]+", r"\1 of adaptive size", image)
    if source and source_label(source) != source:
        text = text.replace(f"from {source}", f"from {source} ({source_label(source)})")
    return "; ".join(filter(None, (image, text)))
