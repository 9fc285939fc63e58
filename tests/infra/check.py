"""Format and validity of the Terraform configuration, for `make check`: offline, and in seconds.

Each environment is validated with the modules it calls, which are all; `tests/infra` runs what the modules promise.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.infra.terraform import Terraform, binary, mirror

ENVIRONMENTS = Path("environments")


def problems(terraform: Terraform) -> list[str]:
    """What Terraform says against the configuration; empty when all is well."""
    found = []
    formatted = terraform.run(".", "fmt", "-check", "-recursive", "-diff", check=False)
    if formatted.returncode:
        found.append(f"terraform fmt:\n{formatted.stdout}{formatted.stderr}")
    for folder in sorted((terraform.folder / ENVIRONMENTS).iterdir()):
        root = str(ENVIRONMENTS / folder.name)
        if "required_providers" in (folder / "versions.tf").read_text(encoding="utf-8") and mirror() is None:
            _say(f"terraform: {root} is not validated: there is no folder `tf-plugins` with its provider; TF_PLUGINS names one.")
            continue
        for step in (["init", "-backend=false", "-no-color"], ["validate", "-no-color"]):
            ended = terraform.run(root, *step, check=False)
            if ended.returncode:
                found.append(f"terraform {step[0]} in {root}:\n{ended.stdout}{ended.stderr}")
                break
    return found


def main() -> int:
    """Print what is wrong; the exit code."""
    if binary() is None:
        _say("terraform: not installed, so its configuration is not checked.")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = problems(Terraform.copied_to(Path(folder)))
    _say("\n".join(found) or "terraform: formatted and valid.")
    return 1 if found else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
