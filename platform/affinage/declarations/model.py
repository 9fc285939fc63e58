"""The YAML that declares sources, assistants and roles. Unknown keys are refused."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError, field_validator, model_validator

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


Rules = tuple[AccessRuleSpec, ...]
Suffix = Annotated[str, Field(pattern=r"^\.[A-Za-z0-9]{1,10}$")]
"""Of a file name: it tells the format."""


class SourceSpec(_Declared):
    """A place documents come from: what every kind declares."""

    name: Name
    organisation: Name = "default"
    kind: str
    schedule: Cron | None = None
    access: Rules | str = ()
    embedder: str = "package:minilm"
    xml: dict[ElementName, Literal["title", "heading", "paragraph", "list_item", "table", "row", "code", "skip"]] | None = None
    """What elements of XML documents are; elements that are not named stand for what is in them."""

    def rules(self) -> tuple[AccessRule, ...]:
        """The declared access rules in NFC, first match wins. Empty when the place itself says who may read."""
        if isinstance(self.access, str):
            return ()
        return tuple(AccessRule(unicodedata.normalize("NFC", rule.match), rule.allow) for rule in self.access)

    @property
    def place(self) -> str:
        """Where it is, for people."""
        raise NotImplementedError

    @property
    def carries_rights(self) -> bool:
        """Whether each document comes with principals of its own, which narrow the rules or stand in their place."""
        return False


class FolderSpec(SourceSpec):
    """A folder."""

    kind: Literal["folder"] = "folder"
    path: Path
    access: Rules | Literal["from_files"] = ()

    @property
    def place(self) -> str:
        """Its path."""
        return str(self.path)


class S3Spec(SourceSpec):
    """Objects of a bucket below a prefix."""

    kind: Literal["s3"]
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    prefix: str = ""
    endpoint: str | None = None
    profile: str | None = None
    rights_tag: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    access: Rules | Literal["from_tags"] = ()

    @field_validator("prefix")
    @classmethod
    def _below(cls, prefix: str) -> str:
        # `hand` would also be the beginning of `handbook-draft/`.
        return f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    @field_validator("endpoint")
    @classmethod
    def _address(cls, endpoint: str | None) -> str | None:
        return endpoint if endpoint is None else _http_url(endpoint)

    @model_validator(mode="after")
    def _tag_is_named(self) -> S3Spec:
        if self.access == "from_tags" and self.rights_tag is None:
            raise ValueError("`access: from_tags` needs `rights_tag`, the key of the tag that lists who may read")
        return self

    @property
    def place(self) -> str:
        """Its bucket and prefix."""
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def carries_rights(self) -> bool:
        """Whether a tag lists who may read."""
        return self.rights_tag is not None


class SqlColumns(_Declared):
    """Which column of the query is what. `text` or `blob`; without `version` a digest tells whether a row changed."""

    key: str
    text: str | None = None
    blob: str | None = None
    title: str | None = None
    suffix: str | None = None
    rights: str | None = None
    version: str | None = None

    @model_validator(mode="after")
    def _one_content(self) -> SqlColumns:
        if (self.text is None) == (self.blob is None):
            raise ValueError("give `text` or `blob`, and not both")
        if self.title is not None and self.text is None:
            raise ValueError("a `title` is written above a `text`; a file in a `blob` has its own")
        if self.suffix is not None and self.blob is None:
            raise ValueError("a column with the `suffix` belongs to a `blob`; for a `text` declare `suffix` beside `columns`")
        return self


class SqlSpec(SourceSpec):
    """Rows of a query. `connection` names an address that only the settings hold."""

    kind: Literal["sql"]
    connection: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    query: Annotated[str, Field(min_length=1)]
    columns: SqlColumns
    suffix: Suffix = ".md"
    access: Rules | Literal["from_column"] = ()

    @model_validator(mode="after")
    def _fits(self) -> SqlSpec:
        if self.access == "from_column" and self.columns.rights is None:
            raise ValueError("`access: from_column` needs `columns.rights`, the column that lists who may read")
        if self.columns.title is not None and self.suffix.lower() not in TITLED_SUFFIXES:
            raise ValueError(f"a title can be written above {', '.join(TITLED_SUFFIXES)}, not above {self.suffix}")
        return self

    @property
    def place(self) -> str:
        """The name of its connection."""
        return f"sql:{self.connection}"

    @property
    def carries_rights(self) -> bool:
        """Whether a column lists who may read."""
        return self.columns.rights is not None


TITLED_SUFFIXES = (".md", ".txt", ".html")
"""Texts that a title can be written above."""


class WebSpec(SourceSpec):
    """A web site: the pages of one host that can be reached from `url`."""

    kind: Literal["web"]
    url: str
    max_pages: int = Field(default=1000, ge=1, le=50_000)
    max_depth: int = Field(default=10, ge=0)
    delay_seconds: float = Field(default=1.0, ge=0, le=60)
    exclude: tuple[str, ...] = ()
    access: Rules = ()

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        return _http_url(url)

    @property
    def place(self) -> str:
        """Where it starts."""
        return self.url


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None or parts.password is not None:
        raise ValueError(f"`{parts.scheme}://{parts.hostname or ''}` is not http(s)://HOST, without a name or password in it")
    return url


def _kind_of(declared: Any) -> str | None:
    kind = declared.get("kind", "folder") if isinstance(declared, Mapping) else getattr(declared, "kind", None)
    return kind if isinstance(kind, str) else None


AnySource = Annotated[
    Annotated[FolderSpec, Tag("folder")] | Annotated[S3Spec, Tag("s3")] | Annotated[SqlSpec, Tag("sql")] | Annotated[WebSpec, Tag("web")],
    Discriminator(_kind_of, custom_error_type="kind", custom_error_message="`kind` is folder, s3, sql or web"),
]
_SOURCE: TypeAdapter[AnySource] = TypeAdapter(AnySource)


def source_spec(stored: Mapping[str, Any]) -> SourceSpec:
    """The source that `model_dump` made `stored` of."""
    return _SOURCE.validate_python(stored)


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

    sources: tuple[AnySource, ...] = ()
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
        # The kind of a source stands in the place of the error, and not in the file.
        where = ".".join(str(part) for number, part in enumerate(first["loc"]) if number != 2 or first["loc"][0] != "sources")
        what = "is not a known key" if first["type"] == "extra_forbidden" else f"is wrong: {first['msg']}"
        raise ConfigurationError(f"{origin}: `{where}` {what}.", hint="docs/how-to/declare.md lists every key.") from error
    for kind, names in (("source", [s.name for s in declared.sources]), ("assistant", [a.name for a in declared.assistants])):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(f"{origin}: {kind} `{twice[0]}` is declared twice.", hint="Names are unique per installation.")
    sources = tuple(_resolved(source, folder) for source in declared.sources)
    return declared.model_copy(update={"sources": sources})


def _resolved(source: SourceSpec, folder: Path) -> SourceSpec:
    if isinstance(source, FolderSpec):
        return source.model_copy(update={"path": (folder / source.path.expanduser()).absolute()})
    return source
