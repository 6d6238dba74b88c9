from __future__ import annotations

import socket

import pytest

from atolld.daemon.server import listen
from atolld.daemon.settings import Settings
from atolld.foundation.errors import FailedPrecondition


def test_it_listens(settings: Settings) -> None:
    with listen(settings) as listener, socket.create_connection(("127.0.0.1", settings.bind_port)):
        assert not listener.getblocking()


def test_an_address_that_is_taken(settings: Settings) -> None:
    with listen(settings), pytest.raises(FailedPrecondition, match=f"127.0.0.1:{settings.bind_port}.*bind_port"):
        listen(settings)


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid"])
def test_an_address_that_is_not_this_machines(settings: Settings, host: str) -> None:
    with pytest.raises(FailedPrecondition, match=host):
        listen(settings.model_copy(update={"bind_host": host}))
