"""Attacks on images, prompts or both.

One file an attack: `image/NAME.py` for a search on pictures, `protocol/NAME.py` for who attacks what, who sees what, and for
worst cases over others. Each assigns `ATTACK = dict(...)`, its record: literals alone, the arguments of `catalog.Attack`, read
without importing the file. Nothing else needs to know of an attack: lists, evaluation, result rows, reports and the tests in
tests/attacks find it by its record.

A search on pictures defines

    attack(model, images, labels, text_features, threat, sample_ids=None, stop=False) -> adversarial images

    images: float [N, 3, H, W] in [0, 1]; labels: int64 [N] into the rows of `text_features`, unit embeddings [C, D] of the
    prompts that the attacker sees; threat: `ThreatModel`; sample_ids: int64 [N] that name the samples, default 0..N-1.

Where its record says `class_names`, it takes these by keyword too, C strings. Where it says `train_pictures`, its file defines

    learn(model, text_features, threat, attacker) -> anything

too, called once for a data set, and the search takes the result by the keyword `learned`. attacker: `Dataset`, see below.

It keeps to this contract, which tests/attacks/test_image_properties.py checks for those that search a ball around each picture:

- the result lies in the ball (`ball.project`), unless it does not list `epsilon` in `uses`, and in [0, 1]; pixels
  outside the range are refused (`check_pixels`);
- whatever is random depends on (threat.seed, sample id, restart) alone (`ball.random_start`, `ball.sample_generator`), and
  nothing on neighbours in the batch: differentiate sums, not means (trap I3);
- gradients are taken with respect to the picture alone; none is left in the model or in the prompts (trap T1), also where the
  caller has switched gradients off;
- with `threat.target`, the number of a class, an attack that lists it in `uses` leads pictures of other classes to that one
  (`losses.aimed`, `pgd.sparing`);
- it returns the best point that it met, by the margin of a wrong class; a larger budget never helps the defender (trap I2);
- with `stop`, a sample is left alone once its margin passes `pgd.BROKEN`, and the same samples are broken as without it;
- its record lists in `uses` the fields of the threat model that count for it, and no others.

An attack on prompts defines

    prompts(model, dataset, threat, frozen, attacker) -> list of `text.TextAttack`, one for each list of prompts

    dataset: `Dataset`, of which it must not look at the pictures; frozen: function that gives the model before training;
    attacker: `Dataset` of labelled pictures of the train split, or None.

and is what other records name in `sees` and `judged`. `threat` is always that of `Attack.under`: with preset and `fixed`.

A change of what an attack does to a sample raises `version` in its record, and results that have it are computed again; a new
name or a faster search does not. tests/golden notices what moves without a new version.
"""
