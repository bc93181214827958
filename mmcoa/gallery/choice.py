"""Which pictures the gallery shows: a rule that knows outcomes, but neither pictures nor predictions.

Of the pictures that the undefended model gets right without an attack there are five kinds, by which attacks break them. Each
data
set in turn gives the first picture, in its fixed order, of the kind whose turn it is. So each kind is seen about equally often,
however rare it is; `counts` says how rare.
"""

KINDS = {
    "none": "survives every attack",
    "image": "broken by the image attack, not by the text attack",
    "text": "broken by the text attack, not by the image attack",
    "each": "broken by the image attack and by the text attack, each alone",
    "both": "survives each alone, broken by both together",
}


def kind_of(right):
    """Kind of one picture from {attack: whether it is still right}; None for one that is wrong without an attack."""
    if not right["clean"]:
        return None
    if right["image"] and right["text"]:
        return "none" if right["sequential"] else "both"
    return "text" if right["image"] else "image" if right["text"] else "each"


def choose(kinds, wanted):
    """[(data set, place), ...] of about `wanted` pictures, sorted by data set and place.

    kinds: {data set: kind of each picture in the data set's order}. Every data set has as many turns, so that together they
        come nearest to `wanted`; of more data sets than that, the first `wanted` have one turn. In turn r of data set i it is
        the
        turn of kind i + r; where the data set has none of it left, of the next kind that is left.
    """
    names = list(kinds)[:wanted]
    turns = max(1, round(wanted / max(1, len(names))))
    taken = set()
    for turn in range(turns):
        for index, name in enumerate(names):
            start = (index + turn) % len(KINDS)
            order = [*KINDS][start:] + [*KINDS][:start]
            left = [(order.index(kind), place) for place, kind in enumerate(kinds[name]) if kind and (name, place) not in taken]
            if left:
                taken.add((name, min(left)[1]))
    return sorted(taken, key=lambda item: (names.index(item[0]), item[1]))


def counts(kinds, chosen):
    """For each data set: pictures looked at, right without an attack, of each kind, and places shown."""
    return [
        {
            "dataset": name,
            "pictures": len(found),
            "right": sum(kind is not None for kind in found),
            "kinds": {kind: found.count(kind) for kind in KINDS},
            "shown": {kind: sum(found[place] == kind for dataset, place in chosen if dataset == name) for kind in KINDS},
        }
        for name, found in kinds.items()
    ]
