"""What is under deploy/ runs this worker: commands, configuration, exit codes, metrics, and hardened pods.

kustomize comes with kubectl's wheel. helm, promtool, systemd-analyze and docker compose have none: what they say is
asked for where they are on the PATH. The chart's output is kept in tests/chart, with the digest of what it was
rendered from, so that it is held to the same rules where there is no helm.

With UPDATE_DEPLOY=1 the copies of the alert rules and, by helm, tests/chart are written instead of compared.
"""

import configparser
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import kubernetes_validate
import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry
from typer.main import get_command

from worker import config, errors
from worker.cli import main as cli
from worker.loading.pass_result import PassResult
from worker.service.metrics import RESULTS, Metrics
from worker.service.scheduler import RESULTS as JOB_RESULTS
from worker.service.web import Health, Web

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/usage-worker"
RENDERED = ROOT / "tests/chart"
RULES = DEPLOY / "prometheus/usage-worker.rules.yml"
OPERATOR_RULE = DEPLOY / "kubernetes/components/monitoring/prometheusrule.yaml"
UPDATE = "UPDATE_DEPLOY=1 make test PYTEST_ARGS=tests/test_deploy.py"

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# From the oldest that the chart allows to the newest; schemas before want more of podFailurePolicy than servers do.
KUBERNETES = ("1.29", "1.31", "1.34", "1.37")
KUSTOMIZATIONS = {"base": "base", "cronjob": "overlays/cronjob", "monitored": "overlays/monitored"}
CHARTS = ("chart-deployment", "chart-cronjob", "chart-every-option", "chart-adopted")
SOURCES = (*KUSTOMIZATIONS, *CHARTS)
OPERATOR = {"ServiceMonitor", "PrometheusRule"}  # kinds of the Prometheus operator: no Kubernetes release has them
WATCHED = {"monitored", "chart-every-option"}
RETENTION_MAX_S = 3600
MAY_PASS = {1, 4, 5}
"""Exit codes of a pass after which another try may do better."""

SECRETS = {
    "WORKER_DATABASE_URL": "postgresql://usage:secret@postgresql/usage",
    "WORKER_UPSTREAM_KEY": "the management key",
    "WORKER_PEPPER": "",
}


def read(path):
    return path.read_text(encoding="utf-8")


def tool(name):
    """A program of the development environment, else of the machine, else none."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def run(*words, **more):
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, **more)
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}"
    return done.stdout


def needed(name):
    found = tool(name)
    if found is None:
        pytest.skip(f"{name} is not on the PATH: not asked")
    return found


@functools.cache
def documents(source):
    """The Kubernetes objects of a kustomization or of a rendered chart."""
    if source in CHARTS:
        text = read(RENDERED / f"{source.removeprefix('chart-')}.yaml")
    else:
        text = run(needed("kubectl"), "kustomize", DEPLOY / "kubernetes" / KUSTOMIZATIONS[source])
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(source, kind):
    return [document for document in documents(source) if document["kind"] == kind]


def workload(source):
    (found,) = of_kind(source, "Deployment") + of_kind(source, "CronJob")
    return found


def template(source):
    spec = workload(source)["spec"]
    return spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]


def containers(source):
    pod = template(source)["spec"]
    return pod.get("initContainers", []) + pod["containers"]


def settings(source, container, folder):
    """The configuration that a container comes to, its files laid out in a folder."""
    pod = template(source)["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    environment = {}
    for variable in container["env"]:
        name, value = variable["name"], variable.get("value", "from a secret of somebody else")
        if name.endswith("_FILE") or name == "WORKER_CONFIG":
            place, _, key = value.rpartition("/")
            file = folder / key
            file.write_text(content(source, mounted[place], key, name), encoding="utf-8")
            value = str(file)
        environment[name] = value
    return config.load(None, environment)


def content(source, volume, key, variable):
    """What a volume's file holds."""
    if "configMap" in volume:
        (found,) = of_kind(source, "ConfigMap")
        assert volume["configMap"]["name"] == found["metadata"]["name"]
        return found["data"][key]
    for secret in of_kind(source, "Secret"):
        assert volume["secret"]["secretName"] == secret["metadata"]["name"]
        return secret["stringData"][key]
    assert volume["secret"]["secretName"] == "usage-worker"
    return SECRETS[variable.removesuffix("_FILE")]


def size(quantity):
    return int(quantity[:-2]) * {"Mi": 1 << 20, "Gi": 1 << 30}[quantity[-2:]]


def codes_of(error):
    return {error.exit_code}.union(*(codes_of(kind) for kind in error.__subclasses__()))


def command(words):
    """Refuse words that `worker` would refuse."""
    found, rest = get_command(cli.app), list(words)
    while rest and rest[0] in getattr(found, "commands", {}):
        found = found.commands[rest.pop(0)]
    assert not hasattr(found, "commands"), words
    found.make_context("worker", rest)


def values_of(source):
    return yaml.safe_load(read(CHART / f"ci/{source.removeprefix('chart-')}-values.yaml"))


@pytest.fixture(scope="module", autouse=True)
def _updated():
    """With UPDATE_DEPLOY: write the rendered charts, and the copies of the alert rules."""
    if not os.environ.get("UPDATE_DEPLOY"):
        return
    for path, text in copies_of_the_rules().items():
        path.write_text(text, encoding="utf-8")
    for source in CHARTS:
        name = source.removeprefix("chart-")
        (RENDERED / f"{name}.yaml").write_text(head(name) + rendered(name), encoding="utf-8")


# -- Kubernetes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("source", SOURCES)
def test_manifests_are_valid_in_every_version_of_kubernetes(source, version):
    strange = set()
    for document in documents(source):
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            strange.add(document["kind"])
    assert strange == (OPERATOR if source in WATCHED else set())


def test_the_chart_asks_for_the_oldest_version_that_is_tried():
    assert yaml.safe_load(read(CHART / "Chart.yaml"))["kubeVersion"] == f">={KUBERNETES[0]}.0-0"


def test_the_validation_refuses_a_key_that_does_not_exist():
    document = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}, "automount": False}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("source", SOURCES)
def test_pods_are_restricted(source):
    pod = template(source)["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostAliases"} & pod.keys()
    user, group = re.search(r"(?m)^USER (\d+):(\d+)$", DOCKERFILE).groups()
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(user),
        "runAsGroup": int(group),
        "fsGroup": int(group),
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for container in containers(source):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        assert "hostPort" not in str(container)


@pytest.mark.parametrize("source", SOURCES)
def test_pods_find_what_they_name(source):
    pod = template(source)["spec"]
    volumes = {volume.pop("name"): volume for volume in map(dict, pod["volumes"])}
    kinds = {kind for volume in volumes.values() for kind in volume}
    assert kinds == {"persistentVolumeClaim", "configMap", "secret", "emptyDir"}
    for container in containers(source):
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts.keys() == volumes.keys()
        assert mounts["tmp"] == "/tmp"
    if source == "chart-adopted":
        assert volumes["journal"]["persistentVolumeClaim"]["claimName"] == "old-journal"
        assert pod["serviceAccountName"] == "reader"
        assert not of_kind(source, "PersistentVolumeClaim") + of_kind(source, "ServiceAccount")
        return
    (claim,) = of_kind(source, "PersistentVolumeClaim")
    assert volumes["journal"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (account,) = of_kind(source, "ServiceAccount")
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("source", SOURCES)
def test_containers_run_commands_and_configurations_that_the_worker_accepts(source, tmp_path):
    pod = template(source)["spec"]
    room = [
        size(claim["spec"]["resources"]["requests"]["storage"]) for claim in of_kind(source, "PersistentVolumeClaim")
    ]
    for container in containers(source):
        command(container["args"])
        found = settings(source, container, tmp_path)
        assert {"journal": str(found.data_dir)}.items() <= {
            mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]
        }.items()
        assert found.database.url.get_secret_value()
        assert found.upstream
        assert pod["terminationGracePeriodSeconds"] > max(upstream.timeout_s for upstream in found.upstream)
        assert min(room, default=1 << 40) > found.journal.max_bytes * len(found.upstream)


def service_of(source):
    (container,) = template(source)["spec"]["containers"]
    (service,) = of_kind(source, "Service")
    return container, service


@pytest.mark.parametrize("source", ["base", "monitored", "chart-deployment", "chart-every-option"])
def test_the_service_is_probed_where_it_answers(source, tmp_path):
    container, service = service_of(source)
    http = settings(source, container, tmp_path).http
    assert http.host == "0.0.0.0"
    assert container["ports"] == [{"name": "http", "containerPort": http.port}]
    (port,) = service["spec"]["ports"]
    assert port == {"name": "http", "port": http.port, "targetPort": "http"}
    assert service["spec"]["publishNotReadyAddresses"] is True
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness", "startup")}
    assert {probe["port"] for probe in probes.values()} == {"http"}
    assert (probes["liveness"]["path"], probes["readiness"]["path"]) == ("/livez", "/readyz")
    monitors = [
        endpoint["path"] for found in of_kind(source, "ServiceMonitor") for endpoint in found["spec"]["endpoints"]
    ]
    well = Health(well=True, text="ok")
    web = Web("127.0.0.1", 0, live=lambda: well, ready=lambda: well, metrics=CollectorRegistry())
    with web:
        for path in (*(probe["path"] for probe in probes.values()), *monitors):
            assert httpx.get(f"http://127.0.0.1:{web.port}{path}").status_code == HTTPStatus.OK


def test_the_default_port_is_the_same_everywhere(tmp_path):
    default = config.Http().port
    assert settings("base", service_of("base")[0], tmp_path).http.port == default
    assert yaml.safe_load(read(CHART / "values.yaml"))["http"]["port"] == default
    assert f"\nEXPOSE {default}\n" in DOCKERFILE


@pytest.mark.parametrize("source", ["base", "monitored", "chart-deployment", "chart-every-option"])
def test_one_worker_at_a_time(source):
    spec = workload(source)["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    (first,) = spec["template"]["spec"]["initContainers"]
    assert first["args"] == ["migrate", "--unless-away"]
    (only,) = spec["template"]["spec"]["containers"]
    assert only["args"] == ["run"]


@pytest.mark.parametrize("source", SOURCES)
def test_selectors_select(source):
    labels = template(source)["metadata"]["labels"].items()
    assert workload(source)["spec"].get("selector", {"matchLabels": {}})["matchLabels"].items() <= labels
    for service in of_kind(source, "Service"):
        assert service["spec"]["selector"].items() <= labels
        for monitor in of_kind(source, "ServiceMonitor"):
            assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
            assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} == {"http"}
    for policy in of_kind(source, "NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels


@pytest.mark.parametrize("source", ["base", "cronjob", "chart-cronjob"])
def test_the_network_policy_lets_out_to_names_database_and_proxy(source, tmp_path):
    (policy,) = of_kind(source, "NetworkPolicy")
    found = settings(source, containers(source)[0], tmp_path)
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    wanted = {53: {"k8s-app": "kube-dns"}}
    for host, url, port in (
        ("postgresql", found.database.url.get_secret_value(), 5432),
        ("cli-proxy-api", found.upstream[0].url, 8317),
    ):
        assert (urlsplit(url).hostname, urlsplit(url).port or port) == (host, port)
        wanted[port] = {"app.kubernetes.io/name": host}
    got = {}
    for rule in policy["spec"]["egress"]:
        (peer,) = rule["to"]
        got |= {port["port"]: peer["podSelector"]["matchLabels"] for port in rule["ports"]}
    assert got == wanted
    inside = [port for rule in policy["spec"]["ingress"] for port in rule["ports"]]
    assert inside == ([] if "cronjob" in source else [{"port": found.http.port, "protocol": "TCP"}])


@pytest.mark.parametrize("source", ["cronjob", "chart-cronjob"])
def test_the_cronjob_passes_within_the_retention(source):
    spec = workload(source)["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    (minutes,) = re.fullmatch(r"\*/(\d+) \* \* \* \*", spec["schedule"]).groups()
    apart_s = int(minutes) * 60
    assert apart_s < RETENTION_MAX_S / 2
    assert 10 <= spec["startingDeadlineSeconds"] < apart_s
    job = spec["jobTemplate"]["spec"]
    assert apart_s + job["activeDeadlineSeconds"] + spec["startingDeadlineSeconds"] < RETENTION_MAX_S
    assert job["backoffLimit"] >= 1
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    (container,) = job["template"]["spec"]["containers"]
    assert container["args"] == ["sync", "--once"]


@pytest.mark.parametrize("source", ["cronjob", "chart-cronjob"])
def test_the_cronjob_tries_again_after_what_may_pass_and_nothing_else(source):
    job = workload(source)["spec"]["jobTemplate"]["spec"]
    disrupted, permanent = job["podFailurePolicy"]["rules"]
    assert disrupted == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert permanent["action"] == "FailJob"
    assert permanent["onExitCodes"]["operator"] == "In"
    assert permanent["onExitCodes"]["containerName"] in [c["name"] for c in job["template"]["spec"]["containers"]]
    of_verify = {errors.VerifyError.exit_code}
    assert set(permanent["onExitCodes"]["values"]) == codes_of(errors.WorkerError) - MAY_PASS - of_verify | {6}


@functools.cache
def kustomization(name):
    return yaml.safe_load(read(DEPLOY / "kubernetes" / name / "kustomization.yaml"))


def test_the_example_secret_has_the_keys_that_are_mounted_and_is_never_applied_with_the_rest():
    secret = yaml.safe_load(read(DEPLOY / "kubernetes/base/secret.example.yaml"))
    assert "secret.example.yaml" not in kustomization("base")["resources"]
    pod = template("base")["spec"]
    (name,) = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
    assert secret["metadata"]["name"] == name
    files = [v["value"] for c in containers("base") for v in c["env"] if v["name"].endswith("_FILE")]
    assert {Path(file).name for file in files} == secret["stringData"].keys()


def test_images_are_of_this_version():
    for name in ("base", "overlays/cronjob"):
        assert [image["newTag"] for image in kustomization(name)["images"]] == [VERSION]
    chart = yaml.safe_load(read(CHART / "Chart.yaml"))
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)
    for name in ("migrate", "worker"):
        assert compose()["services"][name]["image"] == f"usage-worker:{VERSION}"
    for source in (*KUSTOMIZATIONS, "chart-deployment", "chart-cronjob", "chart-adopted"):
        assert {container["image"] for container in containers(source)} == {f"usage-worker:{VERSION}"}
    assert all("@sha256:" in container["image"] for container in containers("chart-every-option"))


# -- the chart --------------------------------------------------------------------------------------------------


def chart_digest(name):
    """The digest of what a rendered chart was made from."""
    files = [path for path in sorted(CHART.rglob("*")) if path.is_file() and path.parent.name != "ci"]
    found = hashlib.sha256()
    for path in (*files, CHART / f"ci/{name}-values.yaml"):
        found.update(f"{path.relative_to(CHART)}\0{read(path)}\0".encode())
    return found.hexdigest()


def rendered(name):
    text = run(
        needed("helm"), "template", "release", CHART,
        "--namespace", "usage", "--kube-version", "1.34.0", "--values", CHART / f"ci/{name}-values.yaml",
    )  # fmt: skip
    return re.sub(r"(?m) +$", "", text)


def head(name):
    return f"# Rendered by helm from deploy/helm/usage-worker with ci/{name}-values.yaml, sha256 {chart_digest(name)}\n"


@pytest.mark.parametrize("source", CHARTS)
def test_the_rendered_chart_is_up_to_date(source):
    name = source.removeprefix("chart-")
    assert read(RENDERED / f"{name}.yaml").startswith(head(name)), f"out of date, helm renders it anew: {UPDATE}"


@pytest.mark.parametrize("source", CHARTS)
def test_helm_renders_the_chart_as_it_is_kept(source):
    name = source.removeprefix("chart-")
    run(needed("helm"), "lint", "--strict", CHART, "--values", CHART / f"ci/{name}-values.yaml")
    now = [document for document in yaml.safe_load_all(rendered(name)) if document]
    assert now == documents(source)


def test_helm_refuses_a_chart_without_a_secret_and_values_that_do_not_exist():
    for more in (
        "",
        "existingSecret=a,mode=daemon",
        "existingSecret=a,extra=1",
        "existingSecret=a,fullnameOverride=A_b",
    ):
        words = ["--set", more] if more else []
        done = subprocess.run(
            [needed("helm"), "template", "a", CHART, "--kube-version", "1.34.0", *words],
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode != 0


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_every_value_of_the_chart_is_in_its_schema_and_is_rendered_once_with_another_value():
    values = yaml.safe_load(read(CHART / "values.yaml"))
    schema = yaml.safe_load(read(CHART / "values.schema.json"))
    assert schema["properties"].keys() - {"global"} == values.keys()
    for key, value in values.items():
        known = schema["properties"][key].get("properties")
        assert known is None or known.keys() == value.keys(), key
    given = set()
    for source in CHARTS:
        given |= set(leaves(values_of(source)))
    sections = {f"{key}.{name}" for key, value in values.items() if isinstance(value, dict) for name in value}
    said = given | {".".join(key.split(".")[:2]) for key in given}
    assert sections | {key for key in values if not isinstance(values[key], dict)} <= said | {"resources"}


def test_the_charts_values_fit_its_schema(tmp_path):
    checker = needed("check-jsonschema")
    run(checker, "--check-metaschema", CHART / "values.schema.json")
    default = yaml.safe_load(read(CHART / "values.yaml"))
    for name in (None, *CHARTS):
        given = values_of(name) if name else {}
        whole = {
            key: value | given.get(key, {}) if isinstance(value, dict) else given.get(key, value)
            for key, value in default.items()
        }
        (tmp_path / "values.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
        run(checker, "--schemafile", CHART / "values.schema.json", tmp_path / "values.yaml")


# -- alert rules ------------------------------------------------------------------------------------------------


def alerts():
    return [rule for group in yaml.safe_load(read(RULES))["groups"] for rule in group["rules"]]


def selectors(expression):
    found = []

    def visit(node):
        inner = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node
        if isinstance(inner, promql_parser.VectorSelector) and inner not in found:
            found.append(inner)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


@functools.cache
def exposed():
    """The samples of a service that has done a pass, and their labels."""
    metrics = Metrics()
    metrics.passed(PassResult(upstream="default", statistics_enabled=True), 1.0)
    metrics.jobs.labels("verify", "ok").inc()
    gauges = ("last_success", "newest_record", "future_record", "journal_limit", "poll_gap", "retention", "standby")
    for name in gauges:
        getattr(metrics, name).labels("default").set(1)
    return {sample.name: set(sample.labels) for family in metrics.registry.collect() for sample in family.samples}


# Prometheus adds these.
OF_THE_TARGET = {"namespace", "job", "instance"}


def labels_of(metric):
    own = exposed()[metric]
    return OF_THE_TARGET | own


def copies_of_the_rules():
    text = read(RULES)
    operator = read(OPERATOR_RULE).partition("spec:\n")[0]
    return {
        OPERATOR_RULE: f"{operator}spec:\n{textwrap.indent(text[text.index('groups:') :], '  ')}",
        CHART / "files/usage-worker.rules.yml": text,
    }


def test_copies_of_the_alert_rules_are_up_to_date():
    for path, wanted in copies_of_the_rules().items():
        assert read(path) == wanted, f"{path.name} is out of date: {UPDATE}"


@pytest.mark.parametrize("source", sorted(WATCHED))
def test_the_operators_rules_are_the_alert_rules(source):
    (rule,) = of_kind(source, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(read(RULES))


def test_alerts_are_named_once():
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"UsageWorker[A-Za-z]+", name) for name in names)


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_reads_what_the_worker_exposes(rule):
    found = selectors(rule["expr"])
    assert found
    for selector in found:
        assert selector.name in exposed(), selector.name
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels_of(selector.name)
            if matcher.name == "result":
                known = JOB_RESULTS.values() if "_jobs_" in selector.name else RESULTS.values()
                assert set(matcher.value.split("|")) <= set(known)
    named = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    for words in re.findall(r"(?:by|on) \(([^)]*)\)", rule["expr"]):
        assert set(words.split(", ")) <= set.union(*(labels_of(selector.name) for selector in found))
        if not rule["alert"].endswith("StatisticsOff"):
            assert named <= set(words.split(", "))


def known_keys():
    return set(leaves(config.Config().model_dump())) | {f"upstream.{name}" for name in config.Upstream.model_fields}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_what_to_do(rule):
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "remedy"}
    for said in re.findall(r"`([^`]+)`", rule["annotations"]["remedy"]):
        if said.startswith("worker "):
            command(said.split()[1:])
        elif "." in said:
            assert said in known_keys(), said
        elif ": " not in said:
            assert said in {"auth_index", "source"}, said


def test_every_alert_is_tested_from_both_sides():
    tests = yaml.safe_load(read(DEPLOY / "prometheus/usage-worker.rules.test.yml"))
    assert tests["rule_files"] == [RULES.name]
    silent, raised = set(), set()
    for test in tests["tests"]:
        for case in test.get("alert_rule_test", []):
            (raised if case["exp_alerts"] else silent).add(case["alertname"])
        for case in test.get("promql_expr_test", []):
            raised.add(re.fullmatch(r'ALERTS\{alertname="(\w+)", alertstate="firing"\}', case["expr"])[1])
            assert case["exp_samples"]
        for series in test["input_series"]:
            (selector,) = selectors(series["series"])
            assert {matcher.name for matcher in selector.matchers.matchers} <= labels_of(selector.name)
    names = {rule["alert"] for rule in alerts()}
    assert raised == names
    # of these the tests name two proxies or jobs, of which one must stay out
    assert names - silent <= {"UsageWorkerPollGapNearRetention", "UsageWorkerUnknownChannels", "UsageWorkerJobsSkipped",
                              "UsageWorkerJobFailed"}  # fmt: skip


def test_promtool_agrees():
    promtool = needed("promtool")
    run(promtool, "check", "rules", RULES)
    run(promtool, "test", "rules", "usage-worker.rules.test.yml", cwd=RULES.parent)


# -- Compose ----------------------------------------------------------------------------------------------------


@functools.cache
def compose():
    return yaml.safe_load(read(DEPLOY / "compose/compose.yaml"))


def dotenv():
    lines = [line for line in read(DEPLOY / "compose/.env.example").splitlines() if re.match(r"#?[A-Z_]+=", line)]
    return dict(line.lstrip("#").split("=", 1) for line in lines)


def filled(text):
    """A text of the Compose file with its variables in place."""
    return re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda found: dotenv()[found[1]] or f"a{found[1].lower()}", text)


def test_compose_fits_the_specification():
    run(needed("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose/compose.yaml")


def test_docker_compose_agrees(tmp_path):
    docker = needed("docker")
    if subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker has no plugin compose: not asked")
    file = tmp_path / ".env"
    file.write_text("".join(f"{name}={value or 'a'}\n" for name, value in dotenv().items()), encoding="utf-8")
    run(docker, "compose", "--file", DEPLOY / "compose/compose.yaml", "--env-file", file, "config", "--quiet")


def test_every_variable_of_compose_is_in_the_example_and_every_secret_is_required():
    text = read(DEPLOY / "compose/compose.yaml")
    assert set(re.findall(r"\$\{(\w+)", text)) == dotenv().keys()
    profiles = {name for name, service in compose()["services"].items() if "profiles" in service}
    for name, value in dotenv().items():
        if not value:
            # What only a profile needs may be left out by others: tests/test_grafana.py shows that it is refused there.
            users = {service for service, told in compose()["services"].items() if f"${{{name}" in str(told)}
            marks = {":-"} if users <= profiles else {":?"}
            assert set(re.findall(rf"\$\{{{name}(:?[-?]?)", text)) == marks


def test_compose_runs_commands_and_a_configuration_that_the_worker_accepts():
    services = compose()["services"]
    for name in ("migrate", "worker"):
        service = services[name]
        command(service["command"])
        environment = {key: filled(value) for key, value in service["environment"].items()}
        found = config.load(None, environment | {"WORKER_DATA_DIR": data_dir()})
        assert f"journal:{found.data_dir}" in service["volumes"]
        assert urlsplit(found.database.url.get_secret_value()).hostname == "postgres"
        assert urlsplit(found.upstream[0].url).hostname == "cli-proxy-api"
    assert services["worker"]["ports"] == [f"127.0.0.1:{found.http.port}:{found.http.port}"]
    assert int(services["worker"]["stop_grace_period"].removesuffix("s")) > found.upstream[0].timeout_s
    key = services["cli-proxy-api"]["environment"]["MANAGEMENT_PASSWORD"]
    assert key == services["worker"]["environment"]["WORKER_UPSTREAM_KEY"]


def test_compose_starts_things_in_order():
    services = compose()["services"]
    assert services["worker"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["migrate"]["healthcheck"] == {"disable": True}
    assert services["postgres"]["healthcheck"]["test"][0] == "CMD"
    assert compose()["volumes"].keys() == {"auths", "database", "grafana", "journal"}


def test_compose_is_hardened():
    for name, service in compose()["services"].items():
        assert service["cap_drop"] == ["ALL"]
        assert service.get("cap_add", []) == (["DAC_OVERRIDE"] if name == "cli-proxy-api" else [])
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        if name != "cli-proxy-api":  # not ours: it writes beside its configuration
            assert service["read_only"] is True
            assert "/tmp" in service["tmpfs"]


def test_the_proxys_configuration_keeps_what_the_worker_fetches():
    proxy = yaml.safe_load(read(DEPLOY / "compose/cli-proxy-api.yaml"))
    assert proxy["usage-statistics-enabled"] is True
    assert proxy["redis-usage-queue-retention-seconds"] == RETENTION_MAX_S
    service = compose()["services"]["cli-proxy-api"]
    assert service["ports"] == [f"127.0.0.1:{proxy['port']}:{proxy['port']}"]
    assert service["healthcheck"]["test"] == ["CMD", "bash", "-c", f"</dev/tcp/127.0.0.1/{proxy['port']}"]


# -- systemd ----------------------------------------------------------------------------------------------------


def unit(name):
    """A unit as (section, key, value)."""
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(DEPLOY / "systemd" / name, encoding="utf-8")
    return {section: dict(parser[section]) for section in parser.sections()}


UNITS = ("usage-worker.service", "usage-worker-pass.service")


@pytest.mark.parametrize("name", UNITS)
def test_units_run_commands_and_a_configuration_that_the_worker_accepts(name):
    service = unit(name)["Service"]
    program, *words = service["ExecStart"].split()
    assert program == "/opt/usage-worker/bin/worker"  # where the README installs it
    command(words)
    example = read(DEPLOY / "systemd/worker.env.example")
    environment = dict(re.findall(r"(?m)^(WORKER_\w+)=(.*)$", f"{example}\n{service['Environment']}"))
    found = config.load(None, environment)
    assert str(found.data_dir) == f"/var/lib/{service['StateDirectory']}"
    assert found.upstream
    stop = "TimeoutStopSec" if words == ["run"] else "TimeoutStartSec"
    assert int(service[stop]) > found.upstream[0].timeout_s


def test_the_service_is_not_started_again_after_what_does_not_pass():
    service = unit("usage-worker.service")["Service"]
    assert service["RestartPreventExitStatus"].split() == ["2", "3"]
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert unit("usage-worker-pass.service")["Service"]["SuccessExitStatus"] == str(errors.BusyError.exit_code)


def test_both_units_are_hardened_alike():
    service, one_pass = (read(DEPLOY / "systemd" / name) for name in UNITS)
    hardening = service[service.index("EnvironmentFile=") : service.index("\n[Install]")]
    assert "DynamicUser=yes" in hardening
    assert one_pass.endswith(hardening)


def test_the_timer_passes_within_the_proxys_default_retention():
    timer = unit("usage-worker-pass.timer")["Timer"]
    assert int(timer["OnUnitInactiveSec"]) + int(timer["AccuracySec"]) < 60 / 2


def test_systemd_agrees(tmp_path):
    analyze = needed("systemd-analyze")
    for name in (*UNITS, "usage-worker-pass.timer"):
        text = read(DEPLOY / "systemd" / name).replace("/opt/usage-worker/bin/worker", shutil.which("true"))
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run([analyze, "verify", *tmp_path.iterdir()], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, [])


# -- the image --------------------------------------------------------------------------------------------------


def data_dir():
    return re.search(r"WORKER_DATA_DIR=(\S+)", DOCKERFILE)[1]


def test_the_images_last_stage_has_no_tools_and_no_root():
    stages = re.split(r"(?m)^FROM ", DOCKERFILE)[1:]
    last = re.sub(r"(?m)^#.*\n", "", stages[-1])
    assert len(stages) == 2
    assert not re.search(r"\b(pip|apt-get|apk|gcc|make|uv)\b", last)
    assert f"\nVOLUME {data_dir()}\n" in last
    assert last.index("\nUSER ") < last.index("\nENTRYPOINT ")
    command(yaml.safe_load(re.search(r"(?m)^CMD (.*)$", last)[1]))


def test_the_image_gets_what_it_copies():
    ignored = read(ROOT / ".dockerignore").splitlines()
    for words in re.findall(r"(?m)^COPY (?!--)(.*)$", DOCKERFILE):
        for source in words.split()[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source.removeprefix('./')}" in ignored


@pytest.fixture
def healthcheck(tmp_path, monkeypatch):
    """The image's health check: asked of a command line, returns its exit code."""
    (where,) = re.findall(r'CMD \["python", "(/opt/[^"]+)"\]', DOCKERFILE)
    (source,) = re.findall(rf"COPY (\S+) {where}\n", DOCKERFILE)
    spec = importlib.util.spec_from_file_location("healthcheck", ROOT / source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("WORKER_")]:
        monkeypatch.delenv(name)

    def ask(*words):
        file = tmp_path / "cmdline"
        file.write_bytes(b"".join(word.encode() + b"\0" for word in ("python", "/opt/venv/bin/worker", *words)))
        return module.main(file)

    return ask


@pytest.fixture
def web():
    """A service's pages, and a list that says whether it is well."""
    well = [True]
    server = Web(
        "127.0.0.1", 0, live=lambda: Health(well[0], "said"), ready=lambda: Health(well=False, text="no"),
        metrics=CollectorRegistry(),
    )  # fmt: skip
    with server:
        yield server.port, well


def test_the_health_check_asks_the_service(healthcheck, web, monkeypatch):
    port, well = web
    monkeypatch.setenv("WORKER_HTTP_PORT", str(port))
    monkeypatch.setenv("WORKER__HTTP__HOST", "0.0.0.0")
    assert healthcheck("run") == 0
    well[0] = False
    assert healthcheck("run") == 1
    assert healthcheck("sync") == 1


def test_the_health_check_reads_the_services_file(healthcheck, web, tmp_path):
    port, _ = web
    file = tmp_path / "other.toml"
    file.write_text(f"[http]\nport = {port}\n", encoding="utf-8")
    assert healthcheck("--config", str(file), "run") == 0
    file.write_text("[http]\nport = 0\n", encoding="utf-8")
    assert healthcheck(f"--config={file}", "run") == 0


def test_the_health_check_fails_where_nothing_answers(healthcheck, web, monkeypatch):
    port, _ = web
    monkeypatch.setenv("WORKER_HTTP_PORT", str(port))
    monkeypatch.setenv("WORKER__HTTP__HOST", "127.0.0.2")
    assert healthcheck("run") == 1


@pytest.mark.parametrize("words", [["sync", "--once"], ["migrate"], ["report", "channels"]])
def test_the_health_check_leaves_other_commands_alone(healthcheck, words, monkeypatch):
    monkeypatch.setenv("WORKER_HTTP_PORT", "1")
    assert healthcheck(*words) == 0


# -- docs/deploy.md ---------------------------------------------------------------------------------------------

PAGE = read(ROOT / "docs/deploy.md")


def shown(*languages):
    found = re.findall(r"(?ms)^ *```(\w+)\n(.*?)^ *```$", PAGE)
    return [textwrap.dedent(body) for language, body in found if language in languages]


def rows(heading):
    found = re.search(rf"(?m)^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\|\n)+)", PAGE)[1]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in found.splitlines()]


def test_the_page_names_files_that_exist():
    named = set(re.findall(r"\bdeploy/[\w./-]*\w", PAGE))
    assert named
    for name in named:
        assert (ROOT / name).exists(), name
    (folder,) = re.findall(r"(?m)^cd (\S+)$", "".join(shown("sh")))
    assert (ROOT / folder / ".env.example").is_file()
    folders = {f"deploy/kubernetes/{folder}" for folder in KUSTOMIZATIONS.values()}
    assert set(re.findall(r"--kustomize (\S+)", PAGE)) <= folders


def test_the_page_sets_values_that_the_chart_has():
    values = set(leaves(yaml.safe_load(read(CHART / "values.yaml"))))
    chosen = re.findall(r"--set ([\w.]+)=", PAGE)
    assert chosen
    assert set(chosen) <= values
    keys = yaml.safe_load(read(CHART / "values.yaml"))["secretKeys"]
    assert set(re.findall(r"--from-file=(\S+)", PAGE)) == {key for key in keys.values() if key}


def test_the_page_says_what_the_cronjob_does_with_each_exit_code():
    job = workload("cronjob")["spec"]["jobTemplate"]["spec"]
    failed = job["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"]
    said = {int(code): then for code, _, then in rows("exit code")}
    assert said.keys() == {0} | MAY_PASS | set(failed)
    assert {code for code, then in said.items() if then.startswith("job failed")} == set(failed)
    tries = {1: "once", 2: "twice"}[job["backoffLimit"]]
    assert {code for code, then in said.items() if then.startswith(f"tried again, {tries}")} == MAY_PASS


def test_the_page_names_every_alert():
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in alerts()}
    assert [(name, severity) for name, severity, _ in rows("alert")] == list(severities.items())


def test_the_pages_snippets_hold():
    proxy, scrape = (yaml.safe_load(text) for text in shown("yaml"))
    assert proxy.items() <= yaml.safe_load(read(DEPLOY / "compose/cli-proxy-api.yaml")).items()
    assert scrape["scrape_configs"][0]["static_configs"][0]["targets"] == [f"127.0.0.1:{config.Http().port}"]
    assert f"UID {re.search('USER ([0-9]+)', DOCKERFILE)[1]} " in PAGE
    assert f"{KUBERNETES[0]} or newer" in PAGE
    assert f"usage-worker:{VERSION} VERSION={VERSION}\n" in PAGE
