from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from atolld.daemon.settings import Settings, load
from atolld.foundation.errors import InvalidArgument


@pytest.fixture
def no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atolld.daemon.settings.DEFAULT_FILE", tmp_path / "missing.json")


@pytest.mark.usefixtures("no_file")
class TestLoad:
    def test_without_anything(self) -> None:
        settings = load({})
        assert settings == Settings()
        assert settings.state == Path("/var/lib/atoll") and settings.run == Path("/run/atoll")
        assert settings.database == Path("/var/lib/atoll/atoll.db")
        assert settings.agent == Path("/var/cache/atoll/bin/atoll-agent")

    def test_the_environment_is_read_by_kind(self) -> None:
        settings = load(
            {
                "ATOLL_INSTANCE": "two",
                "ATOLL_BIND_PORT": "9",
                "ATOLL_METRICS_PUBLIC": "true",
                "ATOLL_MEMORY_OVERCOMMIT": "1.5",
                "ATOLL_DNS_SERVERS": "1.1.1.1,9.9.9.9",
                "ATOLL_SUBNET": "10.9.0.0/16",
                "ATOLL_API_KEY": "not mine",
                "ATOLL_SOMETHING_ELSE": "of another program",
                "PATH": "/bin",
            }
        )
        assert (settings.instance, settings.bind_port, settings.metrics_public) == ("two", 9, True)
        assert settings.memory_overcommit == 1.5
        assert settings.dns_servers == (IPv4Address("1.1.1.1"), IPv4Address("9.9.9.9"))
        assert settings.subnet == IPv4Network("10.9.0.0/16")
        assert settings.state == Path("/var/lib/two")

    def test_file_then_environment_then_options(self, tmp_path: Path) -> None:
        file = tmp_path / "s.json"
        file.write_text(json.dumps({"bind_port": 1, "bind_host": "0.0.0.0", "instance": "file"}))
        settings = load(
            {"ATOLL_SETTINGS": str(file), "ATOLL_BIND_PORT": "2", "ATOLL_INSTANCE": "env"},
            {"instance": "option", "bind_port": None},
        )
        assert (settings.bind_host, settings.bind_port, settings.instance) == ("0.0.0.0", 2, "option")

    @pytest.mark.parametrize(
        "environ, says",
        [
            ({"ATOLL_BIND_PORT": "0"}, "bind_port is '0'"),
            ({"ATOLL_BIND_PORT": "http"}, "bind_port is 'http'"),
            ({"ATOLL_INSTANCE": "Not Good"}, "'Not Good' is not an instance name"),
            ({"ATOLL_NODE": "cloud"}, "node is 'cloud'"),
            ({"ATOLL_SUBNET": "10.0.0.1/8"}, "subnet"),
            ({"ATOLL_STATE_DIR": "relative"}, "relative"),
            ({"ATOLL_SETTINGS": "/nowhere/x.json"}, "/nowhere/x.json"),
        ],
    )
    def test_what_cannot_be_is_named(self, environ: dict[str, str], says: str) -> None:
        with pytest.raises(InvalidArgument, match=says):
            load(environ)

    @pytest.mark.parametrize("text, says", [("{", "not JSON"), ("[]", "no object"), ('{"port": 1}', "port")])
    def test_a_bad_file(self, tmp_path: Path, text: str, says: str) -> None:
        file = tmp_path / "s.json"
        file.write_text(text)
        with pytest.raises(InvalidArgument, match=says):
            load({"ATOLL_SETTINGS": str(file)})


@pytest.mark.parametrize(
    "host, url",
    [
        ("127.0.0.1", "http://127.0.0.1:8880"),
        ("0.0.0.0", "http://127.0.0.1:8880"),
        ("::", "http://[::1]:8880"),
        ("::1", "http://[::1]:8880"),
        ("box.local", "http://box.local:8880"),
    ],
)
def test_where_clients_on_this_machine_go(host: str, url: str) -> None:
    assert Settings(bind_host=host).url == url


@pytest.mark.usefixtures("no_file")
class TestTls:
    @pytest.mark.parametrize(
        "given, fault",
        [
            ({"tls": "auto"}, "needs the setting domain"),
            ({"tls": "files", "tls_cert": "/c"}, "needs the settings tls_cert and tls_key"),
            ({"tls": "auto", "domain": "a.test", "tls_port": 8880}, "must differ"),
            ({"domain": "*.sandbox.test"}, "domain"),
            ({"domain": "Sandbox.test"}, "domain"),
        ],
    )
    def test_what_cannot_be(self, given: dict[str, object], fault: str) -> None:
        with pytest.raises(InvalidArgument, match=fault):
            load({}, given)

    @pytest.mark.parametrize(
        "given, told",
        [
            ({}, None),
            ({"domain": "a.test"}, "a.test"),
            ({"domain": "a.test", "tls": "auto"}, "a.test"),
            ({"domain": "a.test", "tls": "auto", "tls_port": 8443}, "a.test:8443"),
        ],
    )
    def test_the_domain_that_clients_are_told(self, given: dict[str, object], told: str | None) -> None:
        assert load({}, given).public_domain == told
