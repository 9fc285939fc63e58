"""One place of each kind that documents come from, which a test fills, breaks and reads through the port."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import boto3
import psycopg

from affinage.declarations.model import FolderSpec, S3Spec, SqlSpec, WebSpec
from affinage.documents.sources import Places, Source
from tests.support.site import Site


class Place(Protocol):
    """A place under the test's control."""

    kind: str

    def put(self, path: str, text: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def break_down(self) -> None: ...
    def open(self) -> Source: ...
    def close(self) -> None: ...


class FolderPlace:
    kind = "folder"

    def __init__(self, root: Path) -> None:
        self.root = root / "docs"
        self.root.mkdir()

    def put(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def break_down(self) -> None:
        shutil.rmtree(self.root)

    def open(self) -> Source:
        return Places().open(FolderSpec(name="s", path=self.root))

    def close(self) -> None: ...


class S3Place:
    """A prefix of a bucket on moto's server."""

    kind = "s3"

    def __init__(self, endpoint: str, bucket: str, prefix: str) -> None:
        self.endpoint, self.bucket, self.prefix = endpoint, bucket, prefix
        self.client = boto3.client("s3", endpoint_url=endpoint)
        self.hosts = ("127.0.0.1",)

    def put(self, path: str, text: str | bytes, **more: Any) -> None:
        data = text.encode() if isinstance(text, str) else text
        self.client.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{path}", Body=data, **more)

    def remove(self, path: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"{self.prefix}/{path}")

    def break_down(self) -> None:
        self.endpoint = "http://127.0.0.1:1"

    def spec(self, **more: Any) -> S3Spec:
        return S3Spec(name="s", kind="s3", bucket=self.bucket, prefix=self.prefix, endpoint=self.endpoint, **more)

    def open(self, **more: Any) -> Source:
        return Places(egress_hosts=self.hosts).open(self.spec(**more))

    def close(self) -> None: ...


class SqlPlace:
    """A table `page` whose key is a path without its suffix; `.md` is that of all, as in the tests."""

    columns: Mapping[str, str] = {"key": "id", "text": "body"}

    def __init__(self, url: str) -> None:
        self.url = url
        self.opened: list[Places] = []

    def run(self, statement: str, *values: Any) -> None:
        raise NotImplementedError

    def put(self, path: str, text: str) -> None:
        self.remove(path)
        self.run("INSERT INTO page (id, body) VALUES (?, ?)", path.removesuffix(".md"), text)

    def remove(self, path: str) -> None:
        self.run("DELETE FROM page WHERE id = ?", path.removesuffix(".md"))

    def break_down(self) -> None:
        self.run("DROP TABLE page")

    def spec(self, **more: Any) -> SqlSpec:
        return SqlSpec(
            **{"name": "s", "kind": "sql", "connection": "pages", "query": "SELECT * FROM page", "columns": self.columns, **more}
        )

    def open(self, **more: Any) -> Source:
        self.opened.append(Places(connections={"pages": self.url}))
        return self.opened[-1].open(self.spec(**more))

    def close(self) -> None:
        for places in self.opened:
            places.close()


TABLE = "CREATE TABLE page (id TEXT COLLATE {collation}, body TEXT, title TEXT, readers TEXT, changed {instant}, file {blob}, suffix TEXT)"


class SqlitePlace(SqlPlace):
    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.file = folder / "pages.db"
        super().__init__(f"sqlite:///{self.file}")
        self.run(TABLE.format(collation="NOCASE", instant="TEXT", blob="BLOB"))

    def run(self, statement: str, *values: Any) -> None:
        connection = sqlite3.connect(self.file)
        with connection:
            connection.execute(statement, values)
        connection.close()


class PostgresPlace(SqlPlace):
    kind = "postgresql"

    def __init__(self, url: str) -> None:
        super().__init__(url.replace("postgresql://", "postgresql+psycopg://"))
        self._server = url
        self.run("DROP TABLE IF EXISTS page")
        self.run(TABLE.format(collation='"default"', instant="TIMESTAMPTZ", blob="BYTEA"))

    def run(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(statement.replace("?", "%s"), values)


class WebPlace:
    """A site whose front page links to every document."""

    kind = "web"

    def __init__(self) -> None:
        self.site = Site()
        self.hosts: tuple[str, ...] = ("127.0.0.1",)
        self._linked: set[str] = set()
        self._link()

    def put(self, path: str, text: str) -> None:
        self.site.file(f"/{quote(path, safe='/&+')}", text.encode(), "text/markdown")
        self._linked.add(path)
        self._link()

    def remove(self, path: str) -> None:
        del self.site.pages[f"/{quote(path, safe='/&+')}"]
        self._linked.discard(path)
        self._link()

    def _link(self) -> None:
        anchors = "".join(f'<a href="/{path}">{path}</a>' for path in sorted(self._linked, reverse=True))
        self.site.page("/", f'</p><meta name="robots" content="noindex">{anchors}<p>')

    def break_down(self) -> None:
        self.site.close()

    def spec(self, **more: Any) -> WebSpec:
        return WebSpec(**{"name": "s", "kind": "web", "url": self.site.url, "delay_seconds": 0, **more})

    def open(self, **more: Any) -> Source:
        return Places(egress_hosts=self.hosts).open(self.spec(**more))

    def close(self) -> None:
        self.site.close()
