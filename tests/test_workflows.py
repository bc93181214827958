"""The host's workflows: of the whole project, its tests and its book."""

import re
from pathlib import Path

import yaml

from mmcoa.report import publish

ROOT = Path(__file__).parents[1]


def test_workflows_have_least_rights_and_call_what_exists():
    """They run nowhere but on the host, so that what can be said of them here is: rights, time limits, our own commands."""
    targets, commands = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M), ""
    for name in ("test.yml", "book.yml"):
        found = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf8"))
        assert found["permissions"] == {"contents": "read"}
        assert all(job["timeout-minutes"] <= 60 for job in found["jobs"].values())
        for step in (step for job in found["jobs"].values() for step in job["steps"]):
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) if "uses" in step else "run" in step
            commands += step.get("run", "") + "\n"
    assert set(re.findall(r"\bmake ([a-z]+)", commands)) <= set(targets)
    assert all((ROOT / script).is_file() for script in re.findall(r"^\.ci/\w+", commands, re.M))
    assert found[True]["push"] == {"branches": ["main"], "tags": ["v*"]}  # YAML 1.1 reads the key `on` as true
    assert found["jobs"]["deploy"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert "make site" in commands and not re.search("mmcoa (run|train)", commands)
    packed = re.search(r'"(site-\S+\.tar\.gz)"', commands)[1].replace("$GITHUB_REF_NAME", "v1.2.3")
    assert publish.ARCHIVE.fullmatch(packed)[1] == "v1.2.3"
