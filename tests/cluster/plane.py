"""A real Kubernetes control plane on this machine: etcd, API server, controller manager and scheduler, up in a few seconds.

What the tests learn from it is what a cluster does: admission, PodSecurity, garbage collection, rollouts, scheduling. It has no node;
`kwok.py` plays some.
"""

from __future__ import annotations

import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubernetes import client, config

from tests.cluster.pki import Pki
from tests.support.programs import Server, free_ports, required, started, wait_for

LOOPBACK = "127.0.0.1"
START_SECONDS = 90
# Three seconds on an idle machine; CI runs other work beside it.
SERVICE_CIDR = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
# The first of the range: the Service `kubernetes`.
POD_CIDR = "10.244.0.0/16"
ISSUER = "https://kubernetes.default.svc.cluster.local"
HURRY = ("--kube-api-qps=200", "--kube-api-burst=400")
# At the default of 20 requests a second the start takes twice as long, and a rollout of 100 pods three times.
SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True)
class Plane:
    """A running control plane."""

    url: str
    folder: Path
    """Logs of the servers."""
    pki: Pki
    kubeconfig: Path
    """Of an administrator."""
    servers: tuple[Server, ...]

    def api(self) -> client.ApiClient:
        """A new client with an administrator's rights."""
        return config.new_client_from_config(config_file=str(self.kubeconfig))


@contextmanager
def control_plane(folder: Path, *, address: str = LOOPBACK) -> Iterator[Plane]:
    """Start the servers of an empty cluster; they are gone afterwards.

    Parameters
    ----------
    folder
        For logs, keys and data; the data is removed afterwards.
    address
        Where the API server is reached. Anything but loopback also makes it the endpoint of the Service `kubernetes`.

    Raises
    ------
    AssertionError
        If a server does not come up, with the end of its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, etcd_port, peer_port, controllers_port, scheduler_port = free_ports(5)
    url = f"https://{address}:{port}"
    pki = _certificates(folder / "pki", address=address)
    kubeconfigs = {user: pki.kubeconfig(user, url=url) for user in ("admin", "controllers", "scheduler")}
    programs = {name: required(name) for name in SERVERS}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder / "etcd", ignore_errors=True)
        servers: list[Server] = []

        def start(name: str, *flags: str | Path) -> None:
            servers.append(stack.enter_context(started(name, [programs[name], *flags], folder=folder)))

        start("etcd", *_etcd(pki, folder / "etcd", port=etcd_port, peer_port=peer_port))
        start("kube-apiserver", *_api_server(pki, folder, address=address, port=port, etcd_port=etcd_port))
        trust = ssl.create_default_context(cafile=str(pki.certificate))
        trust.load_cert_chain(pki.folder / "admin.crt", pki.key("admin"))
        wait_for(lambda: _ready(url, trust), what="The API server is not ready", seconds=START_SECONDS, servers=servers)
        # Not before: the controller manager gives up after ten seconds without an API server.
        start("kube-controller-manager", *_controllers(pki, folder, kubeconfigs["controllers"], port=controllers_port))
        start("kube-scheduler", *_scheduler(folder, kubeconfigs["scheduler"], port=scheduler_port))
        plane = Plane(url, folder, pki, kubeconfigs["admin"], tuple(servers))
        with plane.api() as api:
            wait_for(
                lambda: usable(api, "default"),
                what="The controllers do not work: the namespace `default` lacks its ServiceAccount or its ConfigMap",
                seconds=START_SECONDS,
                servers=servers,
            )
        yield plane


def usable(api: client.ApiClient, namespace: str) -> bool:
    """Whether pods can be created in the namespace: without its default ServiceAccount they are refused."""
    core = client.CoreV1Api(api)
    try:
        core.read_namespaced_service_account("default", namespace)
        core.read_namespaced_config_map("kube-root-ca.crt", namespace)
    except client.ApiException as error:
        if error.status == 404:
            return False
        raise
    return True


def _certificates(folder: Path, *, address: str) -> Pki:
    pki = Pki(folder)
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"]
    pki.issue("api-server", user="kube-apiserver", hosts=[*names, *sorted({LOOPBACK, address}), SERVICE_ADDRESS])
    pki.issue("etcd", user="etcd", hosts=["localhost", LOOPBACK])
    pki.issue("etcd-client", user="kube-apiserver")
    pki.issue("kubelet-client", user="kube-apiserver", groups=["system:masters"])
    pki.issue("front-proxy", user="front-proxy")
    pki.issue("admin", user="admin", groups=["system:masters"])
    pki.issue("controllers", user="system:kube-controller-manager")
    pki.issue("scheduler", user="system:kube-scheduler")
    pki.service_accounts()
    return pki


def _etcd(pki: Pki, data: Path, *, port: int, peer_port: int) -> list[str]:
    return [
        f"--data-dir={data}",
        "--name=tests",
        f"--listen-client-urls=https://{LOOPBACK}:{port}",
        f"--advertise-client-urls=https://{LOOPBACK}:{port}",
        f"--listen-peer-urls=http://{LOOPBACK}:{peer_port}",
        f"--initial-advertise-peer-urls=http://{LOOPBACK}:{peer_port}",
        f"--initial-cluster=tests=http://{LOOPBACK}:{peer_port}",
        f"--cert-file={pki.folder / 'etcd.crt'}",
        f"--key-file={pki.key('etcd')}",
        f"--trusted-ca-file={pki.certificate}",
        "--client-cert-auth",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _api_server(pki: Pki, folder: Path, *, address: str, port: int, etcd_port: int) -> list[str]:
    # The endpoint of a Service may not be a loopback address: there, the Service `kubernetes` stays without one.
    reach = (
        [f"--bind-address={LOOPBACK}", "--endpoint-reconciler-type=none"]
        if address == LOOPBACK
        else ["--bind-address=0.0.0.0", f"--advertise-address={address}"]
    )
    return [
        *reach,
        f"--secure-port={port}",
        f"--etcd-servers=https://{LOOPBACK}:{etcd_port}",
        f"--etcd-cafile={pki.certificate}",
        f"--etcd-certfile={pki.folder / 'etcd-client.crt'}",
        f"--etcd-keyfile={pki.key('etcd-client')}",
        f"--tls-cert-file={pki.folder / 'api-server.crt'}",
        f"--tls-private-key-file={pki.key('api-server')}",
        f"--cert-dir={folder / 'api-server'}",
        f"--client-ca-file={pki.certificate}",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        # Without it the API server refuses privileged pods by itself, and PodSecurity would not be what is tested.
        "--allow-privileged",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={pki.folder / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={pki.key('service-accounts')}",
        f"--kubelet-certificate-authority={pki.certificate}",
        f"--kubelet-client-certificate={pki.folder / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki.key('kubelet-client')}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki.certificate}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki.folder / 'front-proxy.crt'}",
        f"--proxy-client-key-file={pki.key('front-proxy')}",
        "--profiling=false",
    ]


def _controllers(pki: Pki, folder: Path, kubeconfig: Path, *, port: int) -> list[str]:
    return [
        *_client(kubeconfig, port=port),
        f"--cert-dir={folder / 'controllers'}",
        f"--root-ca-file={pki.certificate}",
        f"--service-account-private-key-file={pki.key('service-accounts')}",
        "--use-service-account-credentials",
        "--allocate-node-cidrs",
        f"--cluster-cidr={POD_CIDR}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
    ]


def _scheduler(folder: Path, kubeconfig: Path, *, port: int) -> list[str]:
    return [*_client(kubeconfig, port=port), f"--cert-dir={folder / 'scheduler'}"]


def _client(kubeconfig: Path, *, port: int) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        "--leader-elect=false",
        "--profiling=false",
        *HURRY,
    ]


def _ready(url: str, trust: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5, context=trust) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
