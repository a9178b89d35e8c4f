"""Where settings come from, and who has the last word."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from core.kernel.settings import CONFIG_FILE, Settings, split_address, unknown_names


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_flag_wins_over_the_environment_and_the_environment_over_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / CONFIG_FILE).write_text('http = "127.0.0.1:1"\ngrpc = "127.0.0.1:1"\nlog_level = "error"\n')
    monkeypatch.setenv("BUSBAR_HTTP", "127.0.0.1:2")
    monkeypatch.setenv("BUSBAR_GRPC", "127.0.0.1:2")
    settings = Settings(http="127.0.0.1:3")
    assert (settings.http, settings.grpc, settings.log_level) == ("127.0.0.1:3", "127.0.0.1:2", "error")


def test_the_file_in_the_data_directory_wins_over_the_one_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text('log_level = "error"\nlog_format = "json"\n')
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / CONFIG_FILE).write_text('log_level = "debug"\n')
    settings = Settings(data=tmp_path / "kept")
    assert (settings.log_level, settings.log_format) == ("debug", "json")


def test_nested_settings_are_spelled_with_two_underscores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSBAR_QUOTAS__BOARDS", "7")
    settings = Settings()
    assert (settings.quotas.boards, settings.quotas.agent_keys) == (7, 25)


@pytest.mark.parametrize(
    "origins",
    [
        "https://a.example,https://b.example",
        " https://a.example , https://b.example, ",
        '["https://a.example", "https://b.example"]',
    ],
)
def test_a_list_in_the_environment_is_separated_by_commas_or_is_json(monkeypatch: pytest.MonkeyPatch, origins: str) -> None:
    monkeypatch.setenv("BUSBAR_CORS_ORIGINS", origins)
    monkeypatch.setenv("BUSBAR_OUTGOING__ALLOW_NETWORKS", "198.18.0.0/15,fd00::/8")
    settings = Settings()
    assert settings.cors_origins == ["https://a.example", "https://b.example"]
    assert settings.outgoing.allow_networks == ["198.18.0.0/15", "fd00::/8"]


def test_an_empty_list_in_the_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSBAR_TRUSTED_PROXIES", "")
    assert Settings().trusted_proxies == []


@pytest.mark.parametrize("listen", ["maker=:8788, plans=[::1]:8099", '{"maker": ":8788", "plans": "[::1]:8099"}'])
def test_pairs_in_the_environment_are_separated_by_commas_or_are_json(monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    monkeypatch.setenv("BUSBAR_LISTEN", listen)
    assert Settings().listen == {"maker": ":8788", "plans": "[::1]:8099"}


@pytest.mark.parametrize(
    ("name", "value"), [("LISTEN", "maker"), ("CORS_ORIGINS", "[nothing"), ("QUOTAS", "5"), ("LISTEN", "maker=8788")]
)
def test_what_is_neither_list_nor_json_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"BUSBAR_{name}", value)
    with pytest.raises(ValueError, match=f"(?i){name}"):
        Settings()


def test_the_database_is_a_file_in_the_data_directory_unless_named(tmp_path: Path) -> None:
    assert Settings(data=tmp_path).database_url == f"sqlite+aiosqlite:///{tmp_path}/busbar.db"
    assert Settings(database="postgresql://db/busbar").database_url == "postgresql://db/busbar"


@pytest.mark.parametrize("address", ["", "8787", "localhost", "localhost:", "localhost:http", "localhost:65536", "::1:80"])
def test_an_address_that_nobody_could_listen_on_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="must be HOST:PORT"):
        Settings(http=address)


def test_addresses_may_be_of_either_family() -> None:
    assert split_address("127.0.0.1:0") == ("127.0.0.1", 0)
    assert split_address("[::1]:8787") == ("::1", 8787)
    assert split_address(":8787") == ("", 8787)


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(ValidationError, match="go together"):
        Settings(tls_certificate=Path("chain.pem"))


def test_a_listener_must_be_of_a_known_surface() -> None:
    with pytest.raises(ValidationError, match="listen"):
        Settings.model_validate({"listen": {"kitchen": "127.0.0.1:0"}})


def test_the_administrators_password_is_not_in_what_settings_print() -> None:
    assert "hunter22" not in repr(Settings.model_validate({"admin_password": "hunter22"}))


def test_misspelt_names_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSBAR_HTTPS", "127.0.0.1:1")
    monkeypatch.setenv("BUSBAR_QUOTAS__BOARDS", "7")
    (tmp_path / CONFIG_FILE).write_text('log_levle = "error"\n')
    assert unknown_names(Settings()) == ["BUSBAR_HTTPS", f"log_levle ({CONFIG_FILE})"]


@pytest.mark.parametrize("text", ["provider.example/v1", "ftp://provider.example", "http://", "http://[", "v1"])
def test_the_address_of_the_model_provider_is_an_http_address(text: str) -> None:
    with pytest.raises(ValidationError, match="ai_base_url"):
        Settings(ai_base_url=text)
