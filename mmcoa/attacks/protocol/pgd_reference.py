"""PGD with the settings that TeCoA, MMCoA and PMG-AFT publish with (trap I2)."""

ATTACK = dict(
    name="pgd-reference",
    summary="PGD as published code has it: step = epsilon, last iterate",
    source="TeCoA, MMCoA, PMG-AFT",
    label="PGD reference",
    knows="weights, label",
    version=1,
    image="pgd",
    preset="reference",
    order=12,
)
