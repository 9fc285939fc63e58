"""NetworkPolicies on the real node, as rules of nftables: the bridge that connects its pods enforces none.

This is ours and for tests only: what the chart's policies say is tried on real connections. A refused connection is rejected, so
that a test sees it at once, where most networks drop it. What the chart does not use is a ValueError, never a rule left out.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kubernetes import client

from tests.support.manifests import selects
from tests.support.programs import required

TABLE = "affinage_policies"
LOOK_SECONDS = 0.2
Policy = Mapping[str, Any]


@dataclass(frozen=True)
class PodAddress:
    """A pod that has an address."""

    namespace: str
    labels: Mapping[str, str]
    address: str


@dataclass
class Ruleset:
    """What becomes of connections from and to pods."""

    pods: Sequence[PodAddress]
    namespaces: Mapping[str, Mapping[str, str]]
    """Labels of each."""
    chains: list[str] = field(default_factory=list)
    jumps: list[str] = field(default_factory=list)

    def close(self, pod: PodAddress, policies: Iterable[Policy], *, direction: str) -> None:
        """Reject what none of `policies`, those that select the pod, opens in this direction, `Ingress` or `Egress`."""
        found = [one for one in policies if direction in one["spec"].get("policyTypes", ["Ingress"])]
        if not found:
            return
        name = f"{direction.lower()}_{pod.address.replace('.', '_')}"
        lines = [line for one in found for rule in one["spec"].get(direction.lower()) or [] for line in self._opened(one, rule, direction)]
        self.chains.append("\n".join([f"  chain {name} {{", *(f"    {line} return" for line in lines), "    reject", "  }"]))
        self.jumps.append(f"ip {'saddr' if direction == 'Egress' else 'daddr'} {pod.address} jump {name}")

    def _opened(self, policy: Policy, rule: Mapping[str, Any], direction: str) -> Iterator[str]:
        side, peers = ("saddr", rule.get("from")) if direction == "Ingress" else ("daddr", rule.get("to"))
        ports = [_port(port) for port in rule.get("ports") or []] or [""]
        # No list of peers means everybody, and so does an empty one.
        for address in [self._addresses(policy, peer, side) for peer in peers] if peers else [""]:
            if address is not None:
                yield from (" ".join(filter(None, [address, port])) for port in ports)

    def _addresses(self, policy: Policy, peer: Mapping[str, Any], side: str) -> str | None:
        """Match of a peer's addresses; None when it has none."""
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            if ":" in block["cidr"]:
                return None  # no pod here has such an address
            except_ = f" ip {side} != {{ {', '.join(block['except'])} }}" if block.get("except") else ""
            return f"ip {side} {block['cidr']}{except_}"
        home = policy["metadata"]["namespace"]
        spaces = {
            name
            for name, labels in self.namespaces.items()
            if ("namespaceSelector" not in peer and name == home)
            or ("namespaceSelector" in peer and selects(peer["namespaceSelector"], labels))
        }
        meant = [pod.address for pod in self.pods if pod.namespace in spaces and selects(peer.get("podSelector") or {}, pod.labels)]
        return f"ip {side} {{ {', '.join(sorted(meant))} }}" if meant else None


def ruleset(policies: Sequence[Policy], pods: Sequence[PodAddress], namespaces: Mapping[str, Mapping[str, str]]) -> str:
    """A file of nftables that replaces the table with what these policies open.

    Parameters
    ----------
    namespaces
        Labels of each by its name.
    """
    made = Ruleset(pods, namespaces)
    for pod in pods:
        ours = [
            one for one in policies if one["metadata"]["namespace"] == pod.namespace and selects(one["spec"]["podSelector"], pod.labels)
        ]
        for direction in ("Ingress", "Egress"):
            made.close(pod, ours, direction=direction)
    # Between pods: `forward`, after Services have become pods. From a pod to the node itself: `input`. From the node to its pods,
    # which is the kubelet's probes: `output`, and always open.
    hooks = [
        "\n".join(
            [
                f"  chain {hook} {{",
                f"    type filter hook {hook} priority -1; policy accept;",
                "    ct state established,related accept",
                *(f"    {jump}" for jump in made.jumps),
                "  }",
            ]
        )
        for hook in ("forward", "input")
    ]
    return "\n".join([f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{", *made.chains, *hooks, "}"]) + "\n"


def _port(port: Mapping[str, Any]) -> str:
    number = port.get("port")
    if not isinstance(number, int):
        raise ValueError(f"a port must be a number here, got {number!r}")
    last = f"-{port['endPort']}" if "endPort" in port else ""
    return f"{port.get('protocol', 'TCP').lower()} dport {number}{last}"


@contextmanager
def enforced(api: client.ApiClient) -> Iterator[None]:
    """Hold every policy of the cluster on this node while the block lasts; a new pod is held some moments after it has its address."""
    done, failed = threading.Event(), []
    required("nft")

    def follow() -> None:
        before = ""
        try:
            while not done.is_set():
                now = ruleset(*_present(api))
                if now != before:
                    subprocess.run(["nft", "-f", "-"], input=now, text=True, check=True, capture_output=True)
                before = now
                done.wait(LOOK_SECONDS)
        except Exception as error:  # noqa: BLE001  told when the block ends: a thread has nobody else to tell
            failed.append(error)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        subprocess.run(["nft", "delete", "table", "inet", TABLE], check=False, capture_output=True)
    if failed:
        raise AssertionError(f"The policies were not enforced: {failed[0]}") from failed[0]


def _present(api: client.ApiClient) -> tuple[list[Policy], list[PodAddress], dict[str, dict[str, str]]]:
    core = client.CoreV1Api(api)
    policies = [api.sanitize_for_serialization(one) for one in client.NetworkingV1Api(api).list_network_policy_for_all_namespaces().items]
    live = [pod for pod in core.list_pod_for_all_namespaces().items if pod.status.pod_ip and pod.status.phase in {"Pending", "Running"}]
    pods = [PodAddress(pod.metadata.namespace, pod.metadata.labels or {}, pod.status.pod_ip) for pod in live if not pod.spec.host_network]
    namespaces = {one.metadata.name: one.metadata.labels or {} for one in core.list_namespace().items}
    return policies, sorted(pods, key=lambda pod: pod.address), namespaces
