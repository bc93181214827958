"""Faults of the released code that a study can switch on (ablations.py), by name; numbers as on the design page of traps."""

FAULTS = {
    "gradient_leak": "the inner image attack's gradients of the weights are added to the update (T1)",
    "misaligned_candidates": "each word gets the candidates of the word before it (X1)",
    "index_positives": "pictures of one class are each other's negatives (T2)",
    "corner_steps": "inner attack with steps of the size of the ball, last iterate (I2)",
    "coupled_decay": "Adam with L2 on every tensor, logit scale included (T3)",
    "all_faults": "all of these together",
}
