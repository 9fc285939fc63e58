"""A real node: kubelet, containerd with runc, kube-proxy and CoreDNS. Pods run, answer by Service and are rolled over under load.

Only inside the namespaces of `node.sh`, which sets NODE_ADDRESS and NODE_CGROUP. NetworkPolicy is enforced only where a test
uses `policies.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from kubernetes import client

from tests.cluster.image import write_image, write_layer
from tests.cluster.plane import POD_CIDR, Plane
from tests.support.programs import program, required, started, wait_for

STATE = Path("/run/affinage")
# In memory, of the namespaces: gone with them.
NAME = "node-0"
DOMAIN = "cluster.local"
PAUSE = "affinage.local/pause:1"
PYTHON = "affinage.local/python:1"
"""Python 3.11 of Debian and nothing else."""
START_SECONDS = 90
CNI = Path("/usr/lib/cni")


@dataclass(frozen=True)
class Node:
    """A running node."""

    name: str
    address: str
    folder: Path

    def import_image(self, image: Path) -> None:
        """Make an image, an OCI archive or layout, known to the node; pods use it with `imagePullPolicy: Never`."""
        command = [str(required("ctr")), f"--address={STATE / 'containerd.sock'}", "--namespace=k8s.io", "images", "import", "-"]
        reader = ["tar", "--create", f"--directory={image}", "."] if image.is_dir() else ["cat", str(image)]
        with subprocess.Popen(reader, stdout=subprocess.PIPE) as archive:
            subprocess.run(command, stdin=archive.stdout, check=True, capture_output=True, text=True, timeout=120)


@contextmanager
def real_node(plane: Plane) -> Iterator[Node]:
    """Add a node that runs pods to the control plane and wait until it is ready.

    Raises
    ------
    AssertionError
        If a server does not come up, with the end of its log.
    """
    address, cgroup = os.environ["NODE_ADDRESS"], os.environ["NODE_CGROUP"]
    STATE.mkdir(parents=True, exist_ok=True)
    node = Node(NAME, address, plane.folder)
    plane.pki.issue("kubelet", user=f"system:node:{NAME}", groups=["system:nodes"], hosts=[NAME, address])
    plane.pki.issue("proxy", user="system:kube-proxy")
    socket = STATE / "containerd.sock"
    with ExitStack() as stack:
        config = _written("containerd.toml", _containerd())
        containerd = stack.enter_context(started("containerd", [required("containerd"), f"--config={config}"], folder=plane.folder))
        wait_for(lambda: _answers(socket), what="containerd does not answer", seconds=START_SECONDS, servers=[containerd])
        node.import_image(_pause_image())
        kubelet = [
            required("kubelet"),
            f"--config={_written('kubelet.yaml', yaml.safe_dump(_kubelet(plane, address=address, cgroup=cgroup)))}",
            f"--kubeconfig={plane.pki.kubeconfig('kubelet', url=plane.url)}",
            f"--root-dir={STATE / 'kubelet'}",
            f"--cert-dir={STATE / 'kubelet-pki'}",
            f"--hostname-override={NAME}",
            f"--node-ip={address}",
        ]
        servers = [containerd, stack.enter_context(started("kubelet", kubelet, folder=plane.folder))]
        proxy = [required("kube-proxy"), f"--config={_written('proxy.yaml', yaml.safe_dump(_proxy(plane)))}"]
        servers.append(stack.enter_context(started("kube-proxy", proxy, folder=plane.folder)))
        names = [required("coredns"), f"-conf={_written('Corefile', _corefile(plane, address=address))}"]
        servers.append(stack.enter_context(started("coredns", names, folder=plane.folder)))
        node.import_image(_python_image())
        with plane.api() as api:
            wait_for(lambda: _ready(client.CoreV1Api(api)), what="The node is not ready", seconds=START_SECONDS, servers=servers)
        yield node


def _python_image() -> Path:
    return write_image(STATE / "python.tar", name=PYTHON, layers=[required("rootfs.tar")])


def _pause_image() -> Path:
    layer = write_layer(STATE / "pause-layer.tar", {"pause": required("pause")})
    return write_image(STATE / "pause.tar", name=PAUSE, layers=[layer], entrypoint=["/pause"], user="65535:65535")


def _written(name: str, text: str) -> Path:
    file = STATE / name
    file.write_text(text, encoding="utf-8")
    return file


def _answers(socket: Path) -> bool:
    command = [str(program("ctr")), f"--address={socket}", "--connect-timeout=1s", "version"]
    return socket.exists() and subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0


def _ready(core: client.CoreV1Api) -> bool:
    try:
        node = core.read_node(NAME)
    except client.ApiException as error:
        if error.status == 404:
            return False
        raise
    return not node.spec.taints and any(found.type == "Ready" and found.status == "True" for found in node.status.conditions or [])


def _containerd() -> str:
    network = {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "hairpinMode": True,  # a pod may reach itself by its Service
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(STATE / "addresses"),
                    "ranges": [[{"subnet": "{{.PodCIDR}}"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }
    template = _written("network.conflist", json.dumps(network))
    return f"""
version = 2
root = "{STATE}/containerd"
state = "{STATE}/containerd-state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
  address = "{STATE}/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  # Without the right to lower it, every sandbox dies: "can't get final child's PID from pipe".
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI}"
    conf_dir = "{STATE}/cni"
    conf_template = "{template}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def _kubelet(plane: Plane, *, address: str, cgroup: str) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plane.pki.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(plane.pki.folder / "kubelet.crt"),
        "tlsPrivateKeyFile": str(plane.pki.key("kubelet")),
        "containerRuntimeEndpoint": f"unix://{STATE}/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [address],
        "clusterDomain": DOMAIN,
        "resolvConf": "",  # the host's resolver is out of reach
        "podLogsDir": str(STATE / "pod-logs"),
        "makeIPTablesUtilChains": False,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
    }


def _proxy(plane: Plane) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(plane.pki.kubeconfig("proxy", url=plane.url))},
        "clusterCIDR": POD_CIDR,
        "hostnameOverride": NAME,
        # Zero leaves the kernel's settings alone: they belong to the host.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _corefile(plane: Plane, *, address: str) -> str:
    return f"""
.:53 {{
  bind {address}
  errors
  kubernetes {DOMAIN} in-addr.arpa {{
    kubeconfig {plane.kubeconfig} tests
  }}
}}
"""
