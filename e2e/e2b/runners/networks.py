"""What a sandbox may reach and who may reach it."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from typing import Any

from e2e.e2b.runners.harness import Run, check, go


@check("Sandbox.create", "Sandbox.get_info")
async def a_policy_from_the_start(run: Run) -> None:
    policy: dict[str, Any] = {"allow_out": ["10.99.1.7"], "deny_out": ["10.99.0.0/16"]}
    sb = await run.create(network=policy)
    network = (await go(sb.get_info())).network
    assert network and network["deny_out"] == ["10.99.0.0/16"], network
    assert [one.removesuffix("/32") for one in network["allow_out"]] == ["10.99.1.7"], network
    await go(sb.kill())


@check("Sandbox.update_network")
async def another_policy_while_it_runs(run: Run) -> None:
    sb = await run.create()
    await go(sb.update_network({"deny_out": ["10.99.0.0/16"]}))
    assert (await go(sb.get_info())).network["deny_out"] == ["10.99.0.0/16"]
    await go(run.Sandbox.update_network(sb.sandbox_id, {"allow_out": ["10.98.0.1"]}))
    network = (await go(sb.get_info())).network
    assert not network.get("deny_out"), "the second update did not replace the first"
    await go(sb.update_network({"allow_internet_access": False}))
    assert (await go(sb.get_info())).allow_internet_access is False
    assert (await go(sb.commands.run("echo alive"))).stdout == "alive\n"
    await go(sb.kill())


@check("Sandbox.create", "Sandbox.update_network")
async def policies_that_make_no_sense(run: Run) -> None:
    create = run.Sandbox.create
    await run.raises(
        "SandboxException", lambda: create(network={"deny_out": ["nonsense"]}), "400", "invalid denied CIDR nonsense"
    )
    await run.raises(
        "SandboxException",
        lambda: create(network={"allow_out": ["example.com"]}),
        "400",
        "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out",
    )
    await run.raises(
        "SandboxException", lambda: create(network={"mask_request_host": "bad host/"}), "400", "mask request host"
    )


@check("Sandbox.create")
async def domains_are_for_later(run: Run) -> None:
    network = {"allow_out": ["example.com"], "deny_out": ["0.0.0.0/0"]}
    await run.raises("SandboxException", lambda: run.Sandbox.create(network=network), "501: ")


def fetch(host: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(os.environ["E2B_SANDBOX_URL"] + "/", headers={"Host": host, **headers})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


ECHO = """
import http.server
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(self.headers["Host"].encode())
http.server.HTTPServer(("127.0.0.1", 8200), Echo).serve_forever()
"""


@check("Sandbox.create", "Sandbox.get_host")
async def traffic_that_needs_a_token(run: Run) -> None:
    sb = await run.create(network={"allow_public_traffic": False, "mask_request_host": "masked.example:${PORT}"})
    token = sb.traffic_access_token
    assert token
    host = sb.get_host(8200)
    assert fetch(host)[0] == 403
    status, body = fetch(host, **{"e2b-traffic-access-token": "wrong"})
    assert status == 403 and "is invalid" in body, body
    status, body = fetch(host, **{"e2b-traffic-access-token": token})
    assert status == 502 and "port is not open" in body, body
    await go(sb.files.write("/tmp/echo.py", ECHO))
    await go(sb.commands.run("exec python3 /tmp/echo.py", background=True, timeout=60))
    await run.until(lambda: fetch(host, **{"e2b-traffic-access-token": token})[0] == 200)
    assert fetch(host, **{"e2b-traffic-access-token": token})[1] == "masked.example:8200"
    await go(sb.kill())
