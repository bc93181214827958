"""Worst case of AutoAttack's four parts; `auto` is the same without FAB."""

ATTACK = dict(
    name="autoattack",
    summary="worst case of apgd-ce, apgd-dlr-t, fab-t and square",
    source="Croce and Hein, ICML 2020",
    label="AutoAttack",
    knows="weights, label",
    version=1,
    parts=("apgd-ce", "apgd-dlr-t", "fab-t", "square"),
    order=61,
)
