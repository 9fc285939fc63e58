"""The YAML that declares sources, assistants and roles. Unknown keys are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from affinage.errors import ConfigurationError
from affinage.identity.access import AccessRule

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Cron = Annotated[str, Field(pattern=r"^[0-9A-Za-z*/,-]+( [0-9A-Za-z*/,-]+){4}$")]
"""Five fields: minute, hour, day of month, month, day of week; in UTC."""
ElementName = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.-]*$")]
"""Of XML, without its namespace's prefix."""
PrincipalName = Annotated[str, Field(pattern=r"^(everyone|(user|group):\S+)$")]


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AccessRuleSpec(_Declared):
    """Documents whose path matches the glob may be read by these principals."""

    match: str
    allow: tuple[PrincipalName, ...]


class SourceSpec(_Declared):
    """A place documents come from."""

    name: Name
    organisation: Name = "default"
    kind: Literal["folder"] = "folder"
    path: Path
    schedule: Cron | None = None
    access: tuple[AccessRuleSpec, ...] | Literal["from_files"] = ()
    embedder: str = "package:minilm"
    xml: dict[ElementName, Literal["title", "heading", "paragraph", "list_item", "table", "row", "code", "skip"]] | None = None
    """What elements of XML documents are; elements that are not named stand for what is in them."""

    def rules(self) -> tuple[AccessRule, ...]:
        """The declared access rules, first match wins. Empty for `from_files`: the files say it."""
        if self.access == "from_files":
            return ()
        return tuple(AccessRule(rule.match, rule.allow) for rule in self.access)


class GuardrailsSpec(_Declared):
    """Limits on questions."""

    topics: tuple[str, ...] = ()
    max_question_chars: int = Field(default=8000, ge=1)


class FeedbackSpec(_Declared):
    """Reasons a user may tick."""

    reasons: tuple[str, ...] = ("incorrect", "incomplete", "off_topic", "tone", "source")


class TuningSpec(_Declared):
    """How the assistant is tuned."""

    method: Literal["sft", "dpo", "kto"] = "sft"
    min_examples: int = Field(default=1000, ge=100)
    recipe: str | None = None
    schedule: Cron | None = None


class RolloutSpec(_Declared):
    """How a candidate meets users."""

    shares: tuple[Annotated[float, Field(gt=0, le=0.5)], ...] = (0.01, 0.05, 0.25, 0.5)
    alpha: float = Field(default=0.05, gt=0, lt=1)
    alpha_harm: float = Field(default=0.10, gt=0, lt=1)
    min_units: int = Field(default=300, ge=0)
    min_days: float = Field(default=7, ge=0)
    max_days: float | None = None

    @field_validator("shares")
    @classmethod
    def _rising(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if not shares or list(shares) != sorted(shares):
            raise ValueError("shares must be given and must not fall: a share that falls would move users out of an arm")
        return shares


class AssistantSpec(_Declared):
    """The unit people talk to and tune."""

    name: Name
    organisation: Name = "default"
    description: str = ""
    task: Literal["answer", "extract", "classify", "summarise"] = "answer"
    engine: str = "extractive"
    sources: tuple[Name, ...]
    access: tuple[PrincipalName, ...] | None = None
    prompt: str = "answer-with-sources"
    languages: tuple[str, ...] = ("fr", "en")
    answer_schema: dict[str, Any] | None = None
    guardrails: GuardrailsSpec = GuardrailsSpec()
    feedback: FeedbackSpec = FeedbackSpec()
    tuning: TuningSpec = TuningSpec()
    rollout: RolloutSpec = RolloutSpec()
    max_output_tokens: int = Field(default=256, ge=1)
    retention_days: int = Field(default=365, ge=1)

    def audience(self) -> tuple[str, ...]:
        """Principals that may use the assistant; without an `access` list, every authenticated user."""
        return ("everyone",) if self.access is None else self.access


class RoleSpec(_Declared):
    """Members of `group` have `role` inside the organisation."""

    organisation: Name = "default"
    role: Literal["operator", "owner", "reviewer", "scientist"]
    group: str


class Declarations(_Declared):
    """One YAML file."""

    sources: tuple[SourceSpec, ...] = ()
    assistants: tuple[AssistantSpec, ...] = ()
    roles: tuple[RoleSpec, ...] = ()


def load_declarations(file: Path) -> Declarations:
    """Read `file`; relative paths in it are relative to the file.

    Raises
    ------
    ConfigurationError
        If the file is missing, is not YAML, or holds an unknown key or a wrong value; names the first.
    """
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"There is no file {file}.", hint="Give the path of a YAML file: `affinage apply -f FILE`.") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{file} cannot be read as YAML: {error}.") from error
    return parse_declarations(raw or {}, folder=file.parent.absolute(), origin=str(file))


def parse_declarations(raw: object, *, folder: Path, origin: str) -> Declarations:
    """Check `raw` (what YAML gave) and resolve paths against `folder`; `origin` is named in errors."""
    if not isinstance(raw, Mapping):
        raise ConfigurationError(f"{origin} must hold a mapping with `sources` and `assistants`.")
    try:
        declared = Declarations.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = "is not a known key" if first["type"] == "extra_forbidden" else f"is wrong: {first['msg']}"
        raise ConfigurationError(f"{origin}: `{where}` {what}.", hint="docs/how-to/declare.md lists every key.") from error
    for kind, names in (("source", [s.name for s in declared.sources]), ("assistant", [a.name for a in declared.assistants])):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(f"{origin}: {kind} `{twice[0]}` is declared twice.", hint="Names are unique per installation.")
    sources = tuple(s.model_copy(update={"path": (folder / s.path.expanduser()).absolute()}) for s in declared.sources)
    return declared.model_copy(update={"sources": sources})
