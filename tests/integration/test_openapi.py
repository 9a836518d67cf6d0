#!/usr/bin/python3
"""The OpenAPI document, against the broker that serves it: paths, methods, statuses, examples, problem types, and docs/HTTP.md.

Ownership: one broker for all cases.
Units: none.
Errors: unittest.
Callers: ctest, as integration.openapi.
"""

import base64
import http.client
import json
import os
import re
import sys
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from broker import Broker  # noqa: E402
from cases import HOST, WAIT_S, Case  # noqa: E402

SHARED = {}
METHODS = ("get", "head", "post", "options", "put", "delete", "patch")


def setUpModule():
    SHARED["broker"] = Broker(settings={"ingest.cors_origins": "https://page.example"}).start()
    with open(os.path.join(ROOT, "ingest", "openapi.json"), encoding="utf-8") as file:
        SHARED["document"] = json.load(file)


def tearDownModule():
    SHARED["broker"].stop()


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def problems():
    """{slug: status} of ing_problem.h."""
    found = re.findall(r'X\(\s*\w+,\s*(\d+),\s*\w+,\s*"([a-z-]+)"', read("ingest", "ing_problem.h"))
    return {slug: int(status) for status, slug in found}


class Schema:
    """As much of JSON Schema as the document uses; another keyword is an error of the test."""

    KNOWN = {"type", "enum", "const", "required", "properties", "additionalProperties", "items", "oneOf", "$ref", "minimum",
             "maximum", "minLength", "maxLength", "pattern", "maxItems", "maxProperties", "description", "contentEncoding"}
    TYPES = {"object": dict, "array": list, "string": str, "integer": int, "null": type(None)}

    def __init__(self, document):
        self.document = document

    def resolve(self, part):
        while "$ref" in part:
            assert part["$ref"].startswith("#/"), part
            target = self.document
            for name in part["$ref"][2:].split("/"):
                target = target[name]
            part = target
        return part

    def faults(self, schema, value, where="$"):
        schema = self.resolve(schema)
        unknown = set(schema) - self.KNOWN
        assert not unknown, unknown
        if "oneOf" in schema:
            fits = [one for one in schema["oneOf"] if not self.faults(one, value, where)]
            return [] if len(fits) == 1 else [f"{where}: {len(fits)} of oneOf fit {value!r}"]
        found = []
        kind = schema.get("type")
        if kind and (not isinstance(value, self.TYPES[kind]) or isinstance(value, bool)):
            return [f"{where}: {value!r} is not {kind}"]
        for name, wrong in (("enum", lambda: value not in schema["enum"]), ("const", lambda: value != schema["const"]),
                            ("minimum", lambda: value < schema["minimum"]), ("maximum", lambda: value > schema["maximum"]),
                            ("minLength", lambda: len(value) < schema["minLength"]),
                            ("maxLength", lambda: len(value) > schema["maxLength"]),
                            ("maxItems", lambda: len(value) > schema["maxItems"]),
                            ("maxProperties", lambda: len(value) > schema["maxProperties"]),
                            ("pattern", lambda: not re.search(schema["pattern"], value))):
            if name in schema and wrong():
                found.append(f"{where}: {value!r} breaks {name} {schema[name]!r}")
        if isinstance(value, dict):
            found += self.faults_of_members(schema, value, where)
        if isinstance(value, list) and "items" in schema:
            for index, item in enumerate(value):
                found += self.faults(schema["items"], item, f"{where}[{index}]")
        return found

    def faults_of_members(self, schema, value, where):
        found = [f"{where}: {name} is missing" for name in schema.get("required", ()) if name not in value]
        more = schema.get("additionalProperties", True)
        for name, member in value.items():
            if name in schema.get("properties", {}):
                found += self.faults(schema["properties"][name], member, f"{where}.{name}")
            elif more is False:
                found.append(f"{where}: {name} is not in the document")
            elif isinstance(more, dict):
                found += self.faults(more, member, f"{where}.{name}")
        return found


class OpenApi(Case):
    def setUp(self):
        self.document = SHARED["document"]
        self.schema = Schema(self.document)

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(HOST, SHARED["broker"].http_port, timeout=WAIT_S)
        self.addCleanup(connection.close)
        connection.request(method.upper(), path.replace("{topic}", "openapi.test"), body, headers or {})
        response = connection.getresponse()
        return response, response.read()

    def operations(self):
        for path, item in self.document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield path, method, item[method]

    def check_reply(self, operation, response, data, message):
        """The status is documented, and the body has the documented type and form."""
        self.assertIn(str(response.status), operation["responses"], message)
        documented = self.schema.resolve(operation["responses"][str(response.status)])
        content = documented.get("content")
        if not content or not data:
            self.assertEqual(data, b"", message)
            return
        kind = response.headers["Content-Type"].split(";")[0]
        self.assertIn(kind, content, message)
        if kind.endswith("json"):
            self.assertEqual([], self.schema.faults(content[kind].get("schema", {}), json.loads(data)), message)

    def test_the_served_document_is_the_one_in_the_tree(self):
        response, data = self.request("GET", "/v1/openapi.json")
        self.assertEqual((response.status, response.headers["Content-Type"]), (200, "application/json"))
        self.assertEqual(data.decode(), read("ingest", "openapi.json"))
        self.assertEqual(self.document["openapi"], "3.1.0")

    def test_every_reference_has_a_target_and_every_operation_a_name(self):
        def walk(part):
            if isinstance(part, dict):
                self.schema.resolve(part)
                for member in part.values():
                    walk(member)
            elif isinstance(part, list):
                for member in part:
                    walk(member)

        walk(self.document)
        names = [operation["operationId"] for _, _, operation in self.operations()]
        self.assertEqual(len(names), len(set(names)))
        for path, method, operation in self.operations():
            for status, response in operation["responses"].items():
                self.assertTrue(self.schema.resolve(response)["description"], (path, method, status))

    def test_every_path_answers_every_method_as_documented(self):
        for path, item in self.document["paths"].items():
            allowed = {method.upper() for method in METHODS if method in item}
            for method in METHODS:
                response, data = self.request(method, path)
                message = (path, method, response.status, data)
                if method in item:
                    self.check_reply(item[method], response, data, message)
                    self.assertNotEqual(response.status, 405, message)
                    continue
                self.assertEqual(response.status, 405, message)
                self.assertEqual(set(response.headers["Allow"].split(", ")), allowed, message)

    def test_every_example_is_taken(self):
        sent = 0
        for path, method, operation in self.operations():
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                self.assertTrue(content["examples"], (path, kind))
                for name, example in content["examples"].items():
                    value = example["value"]
                    if not example.get("x-base64"):
                        self.assertEqual([], self.schema.faults(content["schema"], value), (path, kind, name))
                    if example.get("x-base64"):
                        body = base64.b64decode(value)
                    elif isinstance(value, str) and not kind.endswith("/json"):
                        body = value.encode()
                    else:
                        body = json.dumps(value).encode()
                    response, data = self.request(method, path, body, {"Content-Type": kind.replace("*/*", "image/png")})
                    message = (path, kind, name, response.status, data)
                    self.assertEqual(response.status, 200, message)
                    self.check_reply(operation, response, data, message)
                    sent += 1
        self.assertGreaterEqual(sent, 10)

    def test_refusals_have_the_documented_form(self):
        batch = self.document["paths"]["/v1/topics/{topic}/batch"]["post"]
        path = "/v1/topics/{topic}/batch"
        for want, kind, body, headers in ((400, "application/json", b"[", {}), (400, "application/x-ndjson", b"x\n", {}),
                                          (207, "application/x-ndjson", b'"a"\nx\n', {}),
                                          (400, "application/msgpack", b"\xc1", {}),
                                          (400, "application/cloudevents-batch+json", b"[{}]", {}),
                                          (415, "text/plain", b"x", {}), (400, "application/json", b"[]", {"CMQ-TTL": "x"}),
                                          (415, "application/json", b"[]", {"Content-Encoding": "br"}),
                                          (431, "application/json", b"[]", {f"X-{i}": "y" for i in range(200)})):
            response, data = self.request("POST", path, body, {"Content-Type": kind, **headers})
            self.assertEqual(response.status, want, (kind, body, data))
            self.check_reply(batch, response, data, (kind, body, data))
        response, data = self.request("POST", path, b'[{"data":1,"id":"x"}]', {"Content-Type": "application/json"})
        response, data = self.request("POST", path, b'[{"data":2,"id":"x"}]', {"Content-Type": "application/json"})
        self.assertEqual(response.status, 409, data)
        self.check_reply(batch, response, data, data)

    def test_every_problem_type_is_in_the_document_and_in_the_docs(self):
        known = problems()
        self.assertGreater(len(known), 20)
        documented = self.document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
        self.assertEqual(set(documented), {"/problems/" + slug for slug in known})
        for response in self.document["components"]["responses"].values():
            for slug in re.findall(r"/problems/([a-z-]+)", response["description"]):
                self.assertIn(slug, known)
        for name, response in self.document["components"]["responses"].items():
            statuses = {known[slug] for slug in re.findall(r"/problems/([a-z-]+)", response["description"])}
            self.assertLessEqual(len(statuses), 1, name)
        every = " ".join(r["description"] for r in self.document["components"]["responses"].values())
        rows = dict((slug, int(status)) for status, slug in re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", read("docs", "HTTP.md"), re.M))
        self.assertEqual(rows, known)
        for slug in known:
            self.assertRegex(every, rf"/problems/{slug}[,.]")


if __name__ == "__main__":
    unittest.main(verbosity=2)
