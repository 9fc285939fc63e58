"""Terraform on a copy of `terraform/`, so that the checkout stays as it is.

The only provider comes from a folder named `tf-plugins`, a mirror in Terraform's own layout; nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 240
_USUAL_PLACES = (Path.home(), Path("/opt"), Path("/usr/local/share"), Path("/usr/share"))


def binary() -> str | None:
    """Terraform's command, or None."""
    return shutil.which("terraform")


def mirror() -> Path | None:
    """The folder with providers: the one that TF_PLUGINS names, else one in a usual place; None without either."""
    named = os.environ.get("TF_PLUGINS")
    places = [Path(named)] if named else [place / "tf-plugins" for place in _USUAL_PLACES]
    return next((place for place in places if place.is_dir()), None)


@dataclass(frozen=True)
class Terraform:
    """Runs in a copy of `terraform/`."""

    folder: Path
    environ: Mapping[str, str]

    @classmethod
    def copied_to(cls, folder: Path) -> Terraform:
        """A fresh copy below `folder`, with a configuration that knows the mirror and nothing else."""
        copy = folder / "terraform"
        shutil.copytree(ROOT / "terraform", copy, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars"))
        found = mirror()
        configuration = folder / "terraform.rc"
        source = f"filesystem_mirror {{\n    path = {json.dumps(str(found))}\n  }}" if found else ""
        configuration.write_text(f"provider_installation {{\n  {source}\n}}\n", encoding="utf-8")
        # The developer's own variables and account stay outside.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "AWS_"))}
        own = {"TF_CLI_CONFIG_FILE": str(configuration), "TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1"}
        return cls(folder=copy, environ={**kept, **own})

    def run(self, root: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One command in the folder `root`; a failure shows what Terraform wrote."""
        command = [str(binary()), f"-chdir={self.folder / root}", *arguments]
        ended = subprocess.run(command, env=dict(self.environ), capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
        if check and ended.returncode:
            raise AssertionError(
                f"terraform {' '.join(arguments)} in {root} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}"
            )
        return ended

    def initialise(self, root: str) -> None:
        """Modules and providers, without state; once for each root."""
        if not (self.folder / root / ".terraform").exists():
            self.run(root, "init", "-backend=false", "-no-color")

    def borrow_providers(self, root: str, *, of: str) -> None:
        """Initialise a root that calls no module with the providers of another: Terraform reads all of a provider to lock it (2 s)."""
        if not (self.folder / root / ".terraform").exists():
            self.initialise(of)
            providers = Path(".terraform") / "providers"
            shutil.copytree(self.folder / of / providers, self.folder / root / providers, symlinks=True)
            shutil.copy(self.folder / of / ".terraform.lock.hcl", self.folder / root)

    def outputs(self, root: str, *arguments: str) -> dict[str, Any]:
        """The applied outputs, by name."""
        read = json.loads(self.run(root, "output", "-json", *arguments).stdout)
        return {name: output["value"] for name, output in read.items()}
