"""Which Secrets the pods of manifests need, and which of them are missing."""

from __future__ import annotations

from affinage.rollout.changes import objects_of
from affinage.rollout.needs import MissingSecret, missing_secrets, wanted_secrets
from affinage.rollout.operate import how_to_create

PODS = """
kind: ConfigMap
metadata: {name: settings}
data: {a: b}
---
kind: Deployment
spec:
  template:
    spec:
      imagePullSecrets: [{name: registry}]
      initContainers:
        - name: wait
          env: [{name: A, valueFrom: {secretKeyRef: {name: database, key: url}}}, {name: B, value: plain}]
      containers:
        - name: main
          env:
            - {name: C, valueFrom: {secretKeyRef: {name: database, key: user}}}
            - {name: D, valueFrom: {secretKeyRef: {name: perhaps, key: x, optional: true}}}
            - {name: E, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
          envFrom: [{secretRef: {name: all}}, {secretRef: {name: maybe, optional: true}}, {configMapRef: {name: settings}}]
      volumes:
        - {name: tls, secret: {secretName: certificate, items: [{key: tls.crt, path: a}]}}
        - {name: other, secret: {secretName: hopefully, optional: true}}
        - {name: tmp, emptyDir: {}}
---
kind: Pod
spec: {containers: [{name: main, env: [{name: A, valueFrom: {secretKeyRef: {name: direct, key: k}}}]}]}
"""


def test_secrets_are_found_wherever_a_pod_may_name_them_and_optional_ones_are_not_needed() -> None:
    assert wanted_secrets(objects_of([PODS])) == {
        "all": frozenset(),
        "certificate": frozenset({"tls.crt"}),
        "database": frozenset({"url", "user"}),
        "direct": frozenset({"k"}),
        "registry": frozenset({".dockerconfigjson"}),
    }


def test_a_secret_is_missing_or_lacks_keys_or_was_not_looked_up() -> None:
    wanted = {"all": frozenset[str](), "database": frozenset({"url", "user"}), "registry": frozenset({"k"}), "whole": frozenset({"k"})}
    present = {"all": None, "database": frozenset({"url", "other"}), "whole": frozenset({"k"})}
    assert missing_secrets(wanted, present) == [MissingSecret("all", (), exists=False), MissingSecret("database", ("user",), exists=True)]


def test_a_missing_secret_is_said_with_what_to_do() -> None:
    absent = MissingSecret("blobs", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), exists=False)
    assert str(absent) == "There is no Secret `blobs`; the pods read its keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`."
    assert how_to_create(absent, namespace="ns") == (
        "kubectl --namespace ns create secret generic blobs --from-file=AWS_ACCESS_KEY_ID=FILE --from-file=AWS_SECRET_ACCESS_KEY=FILE"
    )
    assert str(MissingSecret("blobs", ("k",), exists=True)) == "Secret `blobs` lacks the key `k`."
    assert how_to_create(MissingSecret("blobs", ("k",), exists=True), namespace="ns") == "kubectl --namespace ns edit secret blobs"
    pull = MissingSecret("registry", (".dockerconfigjson",), exists=False)
    assert how_to_create(pull, namespace="ns") == (
        "kubectl --namespace ns create secret docker-registry registry --from-file=.dockerconfigjson=FILE"
    )
