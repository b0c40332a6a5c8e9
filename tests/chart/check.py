"""Renders the chart as Helm does, and validates the objects. Prints how many were valid.

By the schemas of the oldest and the newest Kubernetes that the chart is for, and by those of KEDA
and of the Prometheus operator; then by what the chart promises.
"""

import pathlib
import sys

import kubernetes_validate
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as operator
from helm_python import Chart, HelmError, lint

TOP = pathlib.Path(sys.argv[1])
CHART = TOP / "deploy/helm/fanfare"
VERSIONS = ["1.27.0", "1.37.0"]
CUSTOM = {
    "ScaledObject": keda.ScaledObject,
    "TriggerAuthentication": keda.TriggerAuthentication,
    "ServiceMonitor": operator.ServiceMonitor,
    "PrometheusRule": operator.PrometheusRule,
}
ROLES = ["router", "worker", "console"]
PEER = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]

LEAST = {"secret": {"name": "fanfare"}}
MOST = {
    "secret": {"name": "fanfare"},
    "image": {"repository": "registry.example.org/fanfare", "tag": "1.2.3"},
    "imagePullSecrets": [{"name": "registry"}],
    "allowTargets": ["10.20.0.0/16", "fd00::/8"],
    "deliveryQueues": 3,
    "settings": {"FANFARE_RETRY_ATTEMPTS": 8, "FANFARE_LOG": "info"},
    "router": {"settings": {"FANFARE_DELIVERY_QUEUES": 2}},
    "worker": {
        "settings": {"FANFARE_LOG": "warn"},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "webhooks", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
    "serviceAccount": {"annotations": {"a": "b"}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "reports"},
    "extraVolumes": [{"name": "authorities", "configMap": {"name": "authorities"}}],
    "extraVolumeMounts": [{"name": "authorities", "mountPath": "/etc/authorities"}],
    "networkPolicy": {
        "consoleFrom": PEER,
        "metricsFrom": PEER,
        "database": {"to": PEER, "port": 6432},
        "reportServer": {"peers": PEER, "port": 443},
        "webhookPorts": [443],
    },
    "autoscaling": {"enabled": True},
    "bridge": {
        "enabled": True,
        "server": "http://reports.example.org:83",
        "url": "http://try-fanfare-bridge.reports/in/main",
        "settings": {"FANFARE_BRIDGE_POLL": "2m"},
    },
    "monitoring": {
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
}
NOTHING = {
    "secret": {"name": "fanfare"},
    "serviceAccount": {"create": False},
    "podDisruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": False},
}
# Values that must be refused, each with a word of the error message.
REFUSED = [
    ({}, "secret.name is missing"),
    ({"secret": {"nam": "fanfare"}}, "nam"),
    (LEAST | {"worker": {"replicas": "two"}}, "replicas"),
    (LEAST | {"autoscaling": {"minReplicas": 0}}, "minReplicas"),
    (LEAST | {"settings": {"FANFARE_DATABASE_URL": "postgres://"}}, "FANFARE_DATABASE_URL"),
    (LEAST | {"allowTargets": ["everything"]}, "allowTargets"),
    (LEAST | {"deliveryQueues": 17}, "deliveryQueues"),
    (LEAST | {"bridge": {"enabled": True}}, "bridge.server is missing"),
    (LEAST | {"bridge": {"settings": {"FANFARE_BRIDGE_FOLDER": "/"}}}, "FANFARE_BRIDGE_FOLDER"),
]


def unknown(given, read, path=""):
    """The members of a document that its model does not have."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            if key not in read:
                yield f"{path}.{key}"
            else:
                yield from unknown(value, read[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(read, list):
        for index, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from unknown(one, other, f"{path}[{index}]")


def validate(document):
    kind = document["kind"]
    if kind in CUSTOM:
        read = CUSTOM[kind].model_validate(document).model_dump(by_alias=True, exclude_none=True)
        assert not list(unknown(document, read)), list(unknown(document, read))
        return
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)


def pod_of(document):
    return document["spec"]["template"]


def check_pod(document, role):
    """Checks what the chart promises of every pod."""
    pod = pod_of(document)["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["args"] == [role]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    secrets = next(volume["secret"] for volume in pod["volumes"] if volume["name"] == "secrets")
    keys = {item["key"] for item in secrets["items"]}
    assert all(key == "secret-keys" or key.startswith(f"{role}-") for key in keys), keys
    paths = {f"/run/secrets/fanfare/{item['path']}" for item in secrets["items"]}
    files = {it["value"] for it in container["env"] if it["name"].endswith("_FILE")}
    assert files == paths, (files, paths)
    if role in [*ROLES, "bridge"]:
        assert pod["terminationGracePeriodSeconds"] > 30
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def env_of(document):
    (container,) = pod_of(document)["spec"]["containers"]
    env = {it["name"]: it.get("value") for it in container["env"]}
    assert len(env) == len(container["env"]), "a variable is there twice"
    return env


def selects(selector, labels):
    expressions = selector.get("matchExpressions", [])
    return selector["matchLabels"].items() <= labels.items() and all(
        labels.get(it["key"]) in it["values"] for it in expressions
    )


def check(values, named):
    """Checks what the chart promises of all objects together; `named` has them by kind and name."""
    find = lambda kind: [document for (its, _), document in named.items() if its == kind]
    jobs, deployments = find("Job"), find("Deployment")
    bridges = find("StatefulSet")
    assert [pod_of(job)["spec"]["containers"][0]["name"] for job in jobs] == ["migrate"]
    assert jobs[0]["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pods = {}
    for document in jobs + deployments + bridges:
        role = document["metadata"]["labels"]["app.kubernetes.io/component"]
        pods[role] = pod_of(document)["metadata"]["labels"]
        check_pod(document, role)
    with_bridge = values.get("bridge", {}).get("enabled", False)
    assert sorted(pods) == sorted([*ROLES, "migrate", *(["bridge"] if with_bridge else [])])
    chosen = lambda selector: {role for role, labels in pods.items() if selects(selector, labels)}
    if values is LEAST:
        assert all(env_of(it)["FANFARE_DELIVERY_QUEUES"] == "1" for it in deployments)
    for document in deployments + bridges + find("PodDisruptionBudget"):
        role = document["metadata"]["labels"]["app.kubernetes.io/component"]
        assert chosen(document["spec"]["selector"]) == {role}
    policies = {
        document["metadata"]["name"]: chosen(document["spec"]["podSelector"])
        for document in find("NetworkPolicy")
    }
    if values.get("networkPolicy", {}).get("enabled", True):
        assert len(find("PodDisruptionBudget")) == 3
        assert policies["try-fanfare"] == set(pods)
        assert policies["try-fanfare-webhooks"] == {"worker", "console"}
    if values is MOST:
        check_most(named, policies)


def check_most(named, policies):
    assert policies["try-fanfare-console"] == {"console"}
    worker = named["Deployment", "try-fanfare-worker"]
    assert "replicas" not in worker["spec"], "KEDA decides"
    (container,) = pod_of(worker)["spec"]["containers"]
    env = env_of(worker)
    assert env["FANFARE_LOG"] == "warn" and env["FANFARE_RETRY_ATTEMPTS"] == "8"
    assert env["FANFARE_ALLOW_TARGETS"] == "10.20.0.0/16,fd00::/8"
    assert container["image"] == "registry.example.org/fanfare:1.2.3"
    scaled = named["ScaledObject", "try-fanfare-worker"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    assert env["FANFARE_DELIVERY_QUEUES"] == "3"
    router = env_of(named["Deployment", "try-fanfare-router"])
    assert router["FANFARE_DELIVERY_QUEUES"] == "2", "a role's own settings count more"
    assert len({trigger["name"] for trigger in scaled["triggers"]}) == 4
    queues = {it["metadata"]["queueName"]: it["metadata"]["value"] for it in scaled["triggers"]}
    first = {f"fanfare.deliveries{number}": "66" for number in ["", ".2", ".3"]}
    assert queues == first | {"fanfare.retries": "2000"}
    bridge = named["StatefulSet", "try-fanfare-bridge"]["spec"]
    assert bridge["replicas"] == 1 and policies["try-fanfare-bridge"] == {"bridge"}
    assert env_of({"spec": bridge})["FANFARE_BRIDGE_POLL"] == "2m"
    (mounted,) = [it["metadata"]["name"] for it in bridge["volumeClaimTemplates"]]
    (container,) = bridge["template"]["spec"]["containers"]
    folder = env_of({"spec": bridge})["FANFARE_BRIDGE_FOLDER"]
    paths = {it["name"]: it["mountPath"] for it in container["volumeMounts"]}
    assert folder.startswith(paths[mounted]), "the journal outlives the pod"
    rules = yaml.safe_load((TOP / "deploy/prometheus/alerts.yml").read_text())
    assert named["PrometheusRule", "try-fanfare"]["spec"] == rules
    dashboard = (TOP / "deploy/grafana/dashboards/fanfare.json").read_text()
    shipped = named["ConfigMap", "try-fanfare-dashboard"]["data"]["fanfare.json"]
    assert shipped.strip() == dashboard.strip()
    monitor = named["ServiceMonitor", "try-fanfare"]["spec"]
    service = named["Service", "try-fanfare-metrics"]
    assert selects(monitor["selector"], service["metadata"]["labels"])


def main():
    right = 0
    with Chart.load(CHART) as chart:
        for values in [LEAST, MOST, NOTHING]:
            report = lint(CHART, values, strict=True)
            assert not report["errors"], report
            chart.validate_schema(values)
            rendered = chart.render(values, name="try", namespace="reports")
            assert "try" in rendered.pop("fanfare/templates/NOTES.txt")
            named = {}
            for text in rendered.values():
                for document in filter(None, yaml.safe_load_all(text)):
                    validate(document)
                    named[document["kind"], document["metadata"]["name"]] = document
            check(values, named)
            right += len(named)
        for values, word in REFUSED:
            try:
                chart.validate_schema(values)
                chart.render(values, name="try")
            except HelmError as error:
                assert word in str(error), (values, str(error))
            else:
                raise AssertionError(f"accepted: {values}")
    print(right)


main()
