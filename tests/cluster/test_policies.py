"""What the tests' own enforcer makes of policies; `on_node/test_policies.py` tries it on connections."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pytest

from tests.cluster.policies import PodAddress, ruleset

NAMESPACES = {"ours": {"team": "a"}, "theirs": {"team": "b"}}
WEB = PodAddress("ours", {"app": "web"}, "10.244.0.2")
ASK = PodAddress("ours", {"app": "ask"}, "10.244.0.3")
FAR = PodAddress("theirs", {"app": "ask"}, "10.244.0.4")
PODS = [WEB, ASK, FAR]


def policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "ours"}, "spec": {"podSelector": {"matchLabels": {"app": "web"}}, **spec}}


def chains(*policies: dict[str, Any]) -> dict[str, list[str]]:
    """Rules by chain."""
    found: dict[str, list[str]] = {}
    for line in ruleset(policies, PODS, NAMESPACES).splitlines():
        words = line.split()
        if words[:1] == ["chain"]:
            name = words[1]
            found[name] = []
        elif line.startswith("    "):
            found[name].append(line.strip())
    return found


def test_a_pod_that_no_policy_selects_is_open() -> None:
    assert set(chains()) == {"forward", "input"}
    assert "egress_10_244_0_2" not in chains(policy(policyTypes=["Ingress"], ingress=[]))


def test_a_selected_pod_is_closed_but_for_what_is_opened() -> None:
    shut = chains(policy(policyTypes=["Ingress", "Egress"], ingress=[], egress=[]))
    assert (shut["ingress_10_244_0_2"], shut["egress_10_244_0_2"]) == (["reject"], ["reject"])
    assert "ip daddr 10.244.0.2 jump ingress_10_244_0_2" in shut["forward"]
    assert "ip saddr 10.244.0.2 jump egress_10_244_0_2" in shut["input"], "the node itself is reached by another way"
    opened = chains(policy(policyTypes=["Ingress"], ingress=[{"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}]))
    assert opened["ingress_10_244_0_2"] == ["tcp dport 80 return", "udp dport 53 return", "reject"]
    # An empty rule opens everything, and so does one with an empty list of peers.
    for rule in ({}, {"from": []}):
        assert chains(policy(policyTypes=["Ingress"], ingress=[rule]))["ingress_10_244_0_2"] == ["return", "reject"]


@pytest.mark.parametrize(
    ("peer", "meant"),
    [
        ({"podSelector": {"matchLabels": {"app": "ask"}}}, "{ 10.244.0.3 }"),
        ({"podSelector": {}}, "{ 10.244.0.2, 10.244.0.3 }"),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "ask"}}}, "{ 10.244.0.3, 10.244.0.4 }"),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, "{ 10.244.0.4 }"),
        ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, "10.0.0.0/8 ip daddr != { 10.1.0.0/16 }"),
        ({"podSelector": {"matchLabels": {"app": "nobody"}}}, None),
        ({"ipBlock": {"cidr": "fd00::/8"}}, None),
    ],
)
def test_peers_are_addresses(peer: dict[str, Any], meant: str | None) -> None:
    found = chains(policy(policyTypes=["Egress"], egress=[{"to": [peer], "ports": [{"port": 1, "endPort": 9}]}]))["egress_10_244_0_2"]
    assert found == ([f"ip daddr {meant} tcp dport 1-9 return"] if meant else []) + ["reject"]


def test_several_policies_open_what_any_of_them_opens() -> None:
    both = [policy(policyTypes=["Ingress"], ingress=[{"ports": [{"port": port}]}]) for port in (80, 81)]
    assert chains(*both)["ingress_10_244_0_2"] == ["tcp dport 80 return", "tcp dport 81 return", "reject"]


def test_a_port_by_name_is_refused_and_not_left_out() -> None:
    with pytest.raises(ValueError, match="'http'"):
        ruleset([policy(policyTypes=["Ingress"], ingress=[{"ports": [{"port": "http"}]}])], PODS, NAMESPACES)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nftables, in a network of its own")
def test_the_kernel_takes_the_rules() -> None:
    peers = [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]
    given = ruleset(
        [policy(policyTypes=["Ingress", "Egress"], ingress=[{}], egress=[{"to": peers, "ports": [{"port": 1}]}])], PODS, NAMESPACES
    )
    command = ["unshare", "--net", "nft", "-f", "-"]
    done = subprocess.run(command, input=given, text=True, capture_output=True, check=False)
    if "unshare failed" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
