"""Renders the Helm chart with several values, and holds the result against schemas and the golden files.

Kubernetes' own schemas are in the environment, and those of the Temporal Worker Controller in `worker-controller.yaml`.
Definitions of other projects' kinds are named by `--crds`: `npm run check:deploy` fetches and names them. No cluster is
needed, and an environment of its own, which the same command makes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import helm_python as helm
import jsonschema
import kubernetes_validate
import yaml

HERE = Path(__file__).parent
CHART = HERE.parent / "helm"
KUBERNETES = "1.37.0"
CONTROLLER = "temporal.io/v1alpha1"

Schemas = dict[tuple[str, str], dict[str, Any]]
"""Schemas of whole objects by API version and kind."""


def strict(schema: Any) -> Any:
    """A schema of a custom resource as a strict API server reads it: a field that it does not name is wrong."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    # The names of properties are no words of the schema.
    read = {
        key: {name: strict(each) for name, each in value.items()} if key == "properties" else strict(value)
        for key, value in schema.items()
    }
    if read.get("type") == "object" and "properties" in read and not read.get("x-kubernetes-preserve-unknown-fields"):
        read.setdefault("additionalProperties", False)
    return read


def whole(spec: Any) -> dict[str, Any]:
    """The schema of an object by that of its `spec`."""
    properties = {"apiVersion": {}, "kind": {}, "metadata": {"type": "object"}, "spec": spec}
    return strict({"type": "object", "required": ["spec"], "properties": properties})


def controller_schemas() -> Schemas:
    """The schemas of the Temporal Worker Controller."""
    kinds = yaml.safe_load((HERE / "worker-controller.yaml").read_text())
    return {(CONTROLLER, kind): whole({"type": "object", **spec}) for kind, spec in kinds.items()}


def schemas_in(paths: list[Path]) -> Schemas:
    """The schemas of files with a CustomResourceDefinition each."""
    schemas: Schemas = {}
    for path in paths:
        definition = yaml.safe_load(path.read_text())["spec"]
        for version in definition["versions"]:
            spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
            schemas[f"{definition['group']}/{version['name']}", definition["names"]["kind"]] = whole(spec)
    return schemas


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Every document that the chart makes of `values`, in the order of kind and name."""
    with helm.Chart.load(CHART) as chart:
        rendered = chart.render(values, name="ace", namespace="training")
    texts = [text for path, text in rendered.items() if path.endswith(".yaml")]
    documents = [document for text in texts for document in yaml.safe_load_all(text) if document]
    return sorted(documents, key=lambda each: (each["kind"], each["metadata"]["name"]))


def is_of_kubernetes(version: str) -> bool:
    """Whether an API version is one of Kubernetes itself."""
    return "." not in version or ".k8s.io/" in version


def kinds_of(document: dict[str, Any]) -> list[tuple[str, str]]:
    """API version and kind of a document, and of what a WorkerResourceTemplate has in it."""
    own = (document["apiVersion"], document["kind"])
    return [own, *(kinds_of(document["spec"]["template"]) if own[1] == "WorkerResourceTemplate" else [])]


def mistakes_of(document: dict[str, Any], schemas: Schemas) -> list[str]:
    """What is wrong with one document. A kind of another project is checked where there is a schema of it."""
    version, kind, spec = document["apiVersion"], document["kind"], document.get("spec", {})
    name = f"{kind} {document.get('metadata', {}).get('name', 'in a template')}"
    pod = spec.get("template", {}).get("spec", {})
    mistakes = [f"{name}: {text}" for text in pod_mistakes(pod)] if "containers" in pod else []
    if schema := schemas.get((version, kind)):
        errors = jsonschema.Draft7Validator(schema).iter_errors(document)
        mistakes += [f"{name}: {'.'.join(map(str, each.absolute_path))}: {each.message}" for each in errors]
    elif is_of_kubernetes(version):
        try:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            mistakes.append(f"{name}: {error.message}")
    if mistakes:
        return mistakes
    if (version, kind) == (CONTROLLER, "WorkerDeployment"):
        mistakes += mistakes_of(deployment_of(document), schemas)
    if (version, kind) == (CONTROLLER, "WorkerResourceTemplate"):
        mistakes += mistakes_of(filled(document), schemas)
    return mistakes


def filled(template: dict[str, Any]) -> dict[str, Any]:
    """What the Worker Controller makes of a WorkerResourceTemplate: it fills in which Deployment is scaled."""
    resource = template["spec"]["template"]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": template["metadata"]["name"]}
    own = {"scaleTargetRef": target} if resource["spec"].get("scaleTargetRef") == {} else {}
    return {**resource, "spec": {**resource["spec"], **own}}


def deployment_of(worker: dict[str, Any]) -> dict[str, Any]:
    """The Deployment that the Worker Controller makes of a WorkerDeployment, as far as the chart decides it."""
    template = worker["spec"]["template"]
    spec = {"selector": {"matchLabels": template["metadata"]["labels"]}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": worker["metadata"], "spec": spec}


def pod_mistakes(pod: dict[str, Any]) -> list[str]:
    """What the chart promises of every pod, where it is not so."""
    mistakes: list[str] = []
    if not pod.get("securityContext", {}).get("runAsNonRoot"):
        mistakes.append("may run as root")
    for container in pod["containers"]:
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("capabilities", {}).get("drop") != [
            "ALL"
        ]:
            mistakes.append("has privileges")
        environment = {each["name"]: each.get("value") for each in container.get("env", [])}
        if any("KEY" in name or "SECRET" in name or "TOKEN" in name for name in environment):
            mistakes.append("has a secret in plain text")
        grace = environment.get("ACECODER_GRACE_SECONDS")
        if grace is not None and int(grace) >= pod.get("terminationGracePeriodSeconds", 30):
            mistakes.append("is killed before its worker has ended")
    return mistakes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the golden files anew")
    parser.add_argument("--crds", type=Path, nargs="*", default=[], help="files with definitions of custom resources")
    options = parser.parse_args()
    schemas = {**controller_schemas(), **schemas_in(options.crds)}
    mistakes: list[str] = []
    unchecked: set[str] = set()
    for path in sorted((HERE / "values").glob("*.yaml")):
        values = yaml.safe_load(path.read_text()) or {}
        linted = helm.lint(CHART, values, strict=True, namespace="training")
        messages = linted.get("messages") or []
        mistakes += [f"{path.name}: {each}" for each in messages if "icon is recommended" not in json.dumps(each)]
        documents = render(values)
        mistakes += [f"{path.name}: {text}" for document in documents for text in mistakes_of(document, schemas)]
        kinds = {kind for document in documents for kind in kinds_of(document)}
        unchecked |= {kind for kind in kinds if kind not in schemas and not is_of_kubernetes(kind[0])}
        golden = HERE / "golden" / path.name
        text = yaml.safe_dump_all(documents, sort_keys=True, width=120)
        if options.write:
            golden.write_text(text)
        elif not golden.exists() or golden.read_text() != text:
            mistakes.append(
                f"{path.name}: differs from its golden file; look at it, then npm run check:deploy -- --write"
            )
        print(f"{path.name}: {len(documents)} documents")
    for version, kind in sorted(unchecked):
        print(f"NOT CHECKED by a schema: {kind} of {version}")
    for mistake in mistakes:
        print(f"WRONG: {mistake}", file=sys.stderr)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
