"""Flags of `mmcoa evaluate` about a test-time defence."""

from mmcoa.defenses import at_test, no_such_setting
from mmcoa.errors import UserError, unknown


def chosen(name, texts=None, adversary=None, draws=None):
    """The `AtTest` that the flags name, None where they name none; imports torch. Raises as `check_flags`."""
    if name is None:
        return None
    return at_test.choose(name, check_flags(name, texts, adversary, draws), adversary or "worst", draws)


def check_flags(name, texts, adversary, draws):
    """The defence's own settings as a dict from `name=value` texts; `UserError` for what is unknown or would do nothing."""
    if name is None:
        given = {"--set-at-test": texts, "--adversary": adversary, "--draws": draws}
        for flag, value in given.items():
            if value is not None and value != []:
                raise UserError(f"{flag} is about a test-time defence; name one with --defense-at-test")
        return {}
    of, own = at_test.record(name), {}
    if adversary is not None and adversary not in at_test.ADVERSARIES:
        raise unknown("adversary", adversary, at_test.ADVERSARIES)
    for text in texts or []:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise UserError(f"--set-at-test takes NAME=VALUE, got '{text}'")
        if key not in of.settings:
            raise no_such_setting(of, key)
        if key in own:
            raise UserError(f"{key} is given twice")
        own[key] = of.kinds[key].parse(key, value)
    return own
