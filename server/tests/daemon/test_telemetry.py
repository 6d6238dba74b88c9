from __future__ import annotations

import re
from pathlib import Path

import atolld.control
from atolld.core.lifecycle import SandboxState
from atolld.daemon.telemetry import Metrics, open_files, resident_bytes


def series(metrics: Metrics) -> dict[str, float]:
    lines = [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_what_control_tells_is_shown() -> None:
    metrics = Metrics()
    for outcome in ("ok", "ok", "capacity"):
        metrics.count("sandbox_creates", {"runtime": "gvisor", "outcome": outcome})
    metrics.count("sandbox_ends", {"runtime": "gvisor", "reason": "expired"})
    metrics.count("usage_sample_failures", {})
    metrics.observe("sandbox_create_seconds", 0.2, {"runtime": "gvisor"})
    metrics.observe("sandbox_create_phase_seconds", 0.1, {"runtime": "gvisor", "phase": "start"})
    metrics.observe("sandbox_end_seconds", 0.1, {"runtime": "gvisor"})
    metrics.observe("sandbox_expiry_delay_seconds", 0.01, {})
    metrics.request("/v1/sandboxes", 201, 0.2)
    told = series(metrics)
    assert told['atoll_sandbox_creates_total{outcome="ok",runtime="gvisor"}'] == 2
    assert told['atoll_sandbox_creates_total{outcome="capacity",runtime="gvisor"}'] == 1
    assert told['atoll_sandbox_ends_total{reason="expired",runtime="gvisor"}'] == 1
    assert told["atoll_usage_sample_failures_total"] == 1
    assert told['atoll_sandbox_create_seconds_bucket{le="0.25",runtime="gvisor"}'] == 1
    assert told['atoll_sandbox_create_seconds_bucket{le="0.1",runtime="gvisor"}'] == 0
    assert told["atoll_sandbox_expiry_delay_seconds_count"] == 1
    assert told['atoll_api_request_seconds_count{route="/v1/sandboxes",status="201"}'] == 1


def test_every_name_that_control_tells_is_known() -> None:
    (package,) = atolld.control.__path__
    sources = "".join(path.read_text() for path in Path(package).glob("*.py"))
    metrics = Metrics()
    for verb, known in (("count", metrics.counters), ("observe", metrics.histograms)):
        told = set(re.findall(verb + r'\(\s*"([a-z_]+)"', sources))
        assert told
        assert told <= known, verb


def test_gauges_are_read_when_they_are_asked_for() -> None:
    metrics = Metrics()
    assert "atoll_pool_layers_ready" not in series(metrics)
    metrics.sources.counts = lambda: {(SandboxState.RUNNING, "gvisor"): 3, (SandboxState.CREATING, "fake"): 1}
    metrics.sources.gauges = lambda: {"pool_layers_ready": 4.0}
    metrics.sources.upstream_connections = lambda: 7
    told = series(metrics)
    assert told['atoll_sandboxes{runtime="gvisor",state="running"}'] == 3
    assert told['atoll_sandboxes{runtime="fake",state="creating"}'] == 1
    assert told["atoll_pool_layers_ready"] == 4
    assert told["atoll_gateway_upstream_connections"] == 7
    assert told["atoll_process_resident_bytes"] > 1_000_000
    assert told["atoll_process_open_files"] > 2


def test_there_is_no_series_that_only_tells_when_another_was_made() -> None:
    metrics = Metrics()
    metrics.count("usage_sample_failures", {})
    assert not re.search(rb"_created\b", metrics.render())


async def test_the_lag_of_the_loop_is_measured() -> None:
    metrics = Metrics()
    metrics.loop_lag.start()
    await metrics.loop_lag.stop()
    assert "atoll_event_loop_lag_seconds_count" in series(metrics)


def test_the_process_knows_itself() -> None:
    before = open_files()
    with open("/dev/null", "rb"):
        assert open_files() == before + 1
    assert resident_bytes() > 1_000_000
