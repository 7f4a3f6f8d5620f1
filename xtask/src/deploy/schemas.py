"""Holds the Kubernetes objects of YAML files against strict schemas: no key that the API does not know.

    schemas.py FILE...

The schemas of Kubernetes itself come with kubernetes-validate, those of prometheus-operator with the models of cloudcoil.
Prints how many objects fit; ends with 1 where one does not, or where there is no schema for it.
"""

import sys

import jsonschema
import kubernetes_validate
import yaml
from cloudcoil.models.prometheus_operator import v1 as operator

VERSION = "1.34"


def main(paths):
    fit, wrong = 0, []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for thing in yaml.safe_load_all(file):
                if thing is None:
                    continue
                complaint = check(thing)
                if complaint:
                    name = f"{thing.get('kind')} {thing.get('metadata', {}).get('name')}"
                    wrong.append(f"{path}: {name}: {complaint}")
                else:
                    fit += 1
    print("\n".join(wrong) or f"{fit} objects fit their schemas", file=sys.stderr if wrong else sys.stdout)
    return 1 if wrong or not fit else 0


def check(thing):
    """What is wrong with an object, if anything is."""
    try:
        if thing["apiVersion"] == "monitoring.coreos.com/v1":
            schema = strict(getattr(operator, thing["kind"]).model_json_schema())
            error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(thing))
            return error and f"{error.json_path}: {error.message}"
        else:
            kubernetes_validate.validate(thing, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        return str(error)
    return None


def strict(schema):
    """The schema without room for unknown keys."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        if isinstance(schema.get("pattern"), str):
            # Go's regular expressions take flags anywhere, Python's at the start.
            schema["pattern"] = schema["pattern"].replace("^(?i)", "(?i)^")
        for part in schema.values():
            strict(part)
    elif isinstance(schema, list):
        for part in schema:
            strict(part)
    return schema


sys.exit(main(sys.argv[1:]))
