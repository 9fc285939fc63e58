"""Settings come from the environment over the file over the defaults, and nothing unknown passes."""

from pathlib import Path

import pytest

from affinage.errors import ConfigurationError
from affinage.settings import load_settings


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    (tmp_path / "affinage.toml").write_text('gateway_port = 9000\nlog_level = "INFO"\n')
    settings = load_settings({"AFFINAGE_HOME": str(tmp_path), "AFFINAGE_LOG_LEVEL": "ERROR"})
    assert (settings.gateway_port, settings.log_level, settings.metrics_port) == (9000, "ERROR", 8401)


def test_an_unknown_variable_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="AFFINAGE_GATEWAY_PROT is not known"):
        load_settings({"AFFINAGE_GATEWAY_PROT": "1"})


def test_an_unknown_key_in_the_file_is_refused_with_the_file_named(tmp_path: Path) -> None:
    (tmp_path / "affinage.toml").write_text("gateway_prot = 9000\n")
    with pytest.raises(ConfigurationError, match=r"`gateway_prot` in .*affinage\.toml is not known"):
        load_settings({"AFFINAGE_HOME": str(tmp_path)})


def test_a_wrong_value_names_the_variable() -> None:
    with pytest.raises(ConfigurationError, match="AFFINAGE_GATEWAY_PORT is wrong"):
        load_settings({"AFFINAGE_GATEWAY_PORT": "http"})


def test_a_file_that_is_not_toml_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "affinage.toml").write_text("= = =")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings({"AFFINAGE_HOME": str(tmp_path)})


def test_the_database_url_never_prints_its_password() -> None:
    settings = load_settings({"AFFINAGE_DATABASE_URL": "postgresql+psycopg://u:secret@db/affinage"})
    assert "secret" not in repr(settings)


def test_each_database_of_an_sql_source_has_a_variable_of_its_own_that_never_prints(tmp_path: Path) -> None:
    (tmp_path / "affinage.toml").write_text('[connections]\npages = "sqlite:////srv/pages.db"\nforms = "sqlite:////srv/forms.db"\n')
    settings = load_settings({"AFFINAGE_HOME": str(tmp_path), "AFFINAGE_CONNECTION_PAGES": "postgresql+psycopg://u:s3cret@db/pages"})
    assert {name: url.get_secret_value() for name, url in settings.connections.items()} == {
        "pages": "postgresql+psycopg://u:s3cret@db/pages",
        "forms": "sqlite:////srv/forms.db",
    }
    assert "s3cret" not in repr(settings)


def test_lists_are_split_at_commas_and_paths_at_the_path_separator() -> None:
    settings = load_settings({"AFFINAGE_EGRESS_HOSTS": "a.example,b.example", "AFFINAGE_SOURCE_ROOTS": "/srv/a:/srv/b"})
    assert settings.egress_hosts == ("a.example", "b.example")
    assert settings.source_roots == (Path("/srv/a"), Path("/srv/b"))


def test_engines_that_are_served_elsewhere_are_mapped_to_their_address() -> None:
    settings = load_settings({"AFFINAGE_GENERATORS": "package:smollm2=http://gen:3000,llama=http://llama:3000"})
    assert settings.generator_urls == {"package:smollm2": "http://gen:3000", "llama": "http://llama:3000"}


@pytest.mark.parametrize("entry", ["http://gen:3000", "llama", "llama=", "=http://gen", "llama=https://gen"])
def test_a_mapping_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="AFFINAGE_GENERATORS is wrong"):
        load_settings({"AFFINAGE_GENERATORS": entry})
