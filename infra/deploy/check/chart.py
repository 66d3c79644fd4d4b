"""Renders the Helm chart with several values, and holds the result against Kubernetes' schemas and the golden files.

It needs no cluster and no network, and an environment of its own: `npm run check:deploy` makes it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import yaml

HERE = Path(__file__).parent
CHART = HERE.parent / "helm"
KUBERNETES = "1.37.0"
FOREIGN = ("temporal.io/", "keda.sh/", "monitoring.coreos.com/")
"""Kinds of other projects, whose schemas are not here."""


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Every document that the chart makes of `values`, in the order of kind and name."""
    with helm.Chart.load(CHART) as chart:
        rendered = chart.render(values, name="ace", namespace="training")
    texts = [text for path, text in rendered.items() if path.endswith(".yaml")]
    documents = [document for text in texts for document in yaml.safe_load_all(text) if document]
    return sorted(documents, key=lambda each: (each["kind"], each["metadata"]["name"]))


def mistakes_of(document: dict[str, Any]) -> list[str]:
    """What is wrong with one document."""
    name = f"{document['kind']} {document['metadata']['name']}"
    pod = document.get("spec", {}).get("template", {}).get("spec", {})
    own = [f"{name}: {text}" for text in pod_mistakes(pod)] if "containers" in pod else []
    if document["apiVersion"].startswith(FOREIGN):
        return own
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        own.append(f"{name}: {error.message}")
    return own


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
    options = parser.parse_args()
    mistakes: list[str] = []
    for path in sorted((HERE / "values").glob("*.yaml")):
        values = yaml.safe_load(path.read_text()) or {}
        linted = helm.lint(CHART, values, strict=True, namespace="training")
        messages = linted.get("messages") or []
        mistakes += [f"{path.name}: {each}" for each in messages if "icon is recommended" not in json.dumps(each)]
        documents = render(values)
        mistakes += [f"{path.name}: {text}" for document in documents for text in mistakes_of(document)]
        golden = HERE / "golden" / path.name
        text = yaml.safe_dump_all(documents, sort_keys=True, width=120)
        if options.write:
            golden.write_text(text)
        elif not golden.exists() or golden.read_text() != text:
            mistakes.append(
                f"{path.name}: differs from its golden file; look at it, then npm run check:deploy -- --write"
            )
        print(f"{path.name}: {len(documents)} documents")
    for mistake in mistakes:
        print(f"WRONG: {mistake}", file=sys.stderr)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
