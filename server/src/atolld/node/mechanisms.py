"""The host mechanisms of one instance, as `atolld.node.linux` puts them together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.clock import Clock
from atolld.host.cgroups import Cgroups
from atolld.host.diskstore import DiskStore
from atolld.host.layerpool import LayerPool
from atolld.host.layers import Layers
from atolld.host.network import HostNetwork
from atolld.host.ownlogs import OwnLogs
from atolld.host.rootfs import RootFilesystems
from atolld.host.saves import Saves


@dataclass(slots=True)
class Mechanisms:
    """`disk_reserve_bytes`: what must stay free on the store for a save to be begun. `archive_trust`: public keys of
    the machines whose archives are read, beside this one's own."""

    network: HostNetwork
    store: DiskStore
    layers: Layers
    layer_pool: LayerPool
    saves: Saves
    roots: RootFilesystems
    own_logs: OwnLogs
    cgroups: Cgroups
    state_dir: Path
    clock: Clock
    disk_reserve_bytes: int
    archive_trust: tuple[str, ...] = ()
