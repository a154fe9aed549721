"""The published API: which operation a request is, and what is wrong with an answer to it."""

import json
import pathlib
import re
import urllib.parse

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = CHECKOUT / "crates/calotype-server/tests/contract/oci-api.json"

# The codes of each status; OCI's "API errors" page, and what its services were seen to say.
CODES = {
    400: {"CannotParseRequest", "InvalidParameter", "MissingParameter", "LimitExceeded", "QuotaExceeded",
          "RelatedResourceNotAuthorizedOrNotFound", "InvalidBucketName", "InvalidObjectName"},
    401: {"NotAuthenticated"},
    403: {"NotAuthorized", "NotAllowed"},
    404: {"NotAuthorizedOrNotFound", "NotFound", "NamespaceNotFound", "BucketNotFound", "ObjectNotFound",
          "UploadNotFound"},
    405: {"MethodNotAllowed"},
    409: {"IncorrectState", "Conflict", "InvalidatedRetryToken", "NotAuthorizedOrResourceAlreadyExists",
          "BucketAlreadyExists", "BucketNotEmpty", "CompartmentAlreadyExists", "TagDefinitionAlreadyExists",
          "TagNamespaceAlreadyExists"},
    411: {"ContentLengthRequired"},
    412: {"NoEtagMatch", "IfMatchFailed", "IfNoneMatchFailed"},
    413: {"PayloadTooLarge", "RequestEntityTooLarge"},
    416: {"InvalidRange"},
    422: {"UnprocessableEntity"},
    429: {"TooManyRequests"},
    431: {"RequestHeaderFieldsTooLarge"},
    500: {"InternalServerError", "InternalError"},
    501: {"MethodNotImplemented"},
    503: {"ServiceUnavailable"},
}
# Answers of identity to a stale etag have another status than those of all other services.
CODES[409].add("NoEtagMatch")

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
# Of the answers that are neither recorded nor in the OpenAPI document.
ANSWER_STATUSES = {True: {200}, False: {200, 202, 204}}
PARTIAL = {"get_object": {206, 304}, "head_object": {304}, "get_bucket": {304}}


# What is required and yet null in OCI's answers: what belongs to no compartment.
NULL = {"Image.compartmentId", "ComputeGlobalImageCapabilitySchema.compartmentId",
        "ComputeGlobalImageCapabilitySchemaSummary.compartmentId"}


CLIENTS = {"WorkRequest": "WorkRequestClient", "VirtualNetwork": "VirtualNetworkClient", "Compute": "ComputeClient",
           "Blockstorage": "BlockstorageClient", "Identity": "IdentityClient",
           "ObjectStorage": "ObjectStorageClient"}
TABLE = CHECKOUT / "crates/calotype-server/src/operations"


def served():
    """What stands in the region's own table: pairs of client and operation."""
    text = "".join(file.read_text() for file in sorted(TABLE.glob("*.rs")))
    rows = re.findall(r'name: "(\w+)",\s+service: Service::(\w+)', text)
    return {(CLIENTS[service], name) for name, service in rows if service in CLIENTS}


# Answers that are no models.
BYTES = ("bytes", "stream")


class Published:
    def __init__(self, document):
        table = served()
        self.operations, self.models = document["operations"], document["models"]
        self.routes = []
        for key, operation in self.operations.items():
            operation["key"] = key
            operation["served"] = (operation["client"], operation["operation_id"]) in table
            service = document["services"][operation["client"]]["module"].removeprefix("oci.")
            operation["models"] = self.models[service]
            self.routes.append((operation["method"], pattern(operation["full_path"]), operation))

    def find(self, method, target):
        """The operation of a request, or None: it may be one of ours, or of nobody's."""
        url = urllib.parse.urlsplit(target)
        asked = urllib.parse.parse_qs(url.query, keep_blank_values=True).keys()
        matches = [one for of, regex, one in self.routes if of == method and regex.fullmatch(url.path)]
        # What has more literal segments is meant. Identity has the same paths for work requests as compute: it is meant
        # only where a parameter says so.
        def order(one):
            unknown = asked - {parameter["name"] for parameter in one["query_params"]}
            identity = one["client"] == "IdentityClient"
            return one["full_path"].count("{"), not one["served"], len(unknown), identity
        return min(matches, key=order, default=None)

    def served(self):
        return [one for one in self.operations.values() if one["served"]]

    def faults(self, operation, request, answer, body):
        """What the published API does not allow of an answer, in words."""
        yield from header_faults(operation, answer)
        if answer.status >= 400:
            yield from error_faults(request, answer, body)
        elif operation:
            yield from answer_faults(operation, answer, body)

    @staticmethod
    def statuses(operation):
        """The statuses with which an operation may succeed."""
        known = {int(status) for status in operation.get("observed_status", ()) if status < "3"}
        known |= {operation.get("spec_success_status")} - {None}
        return (known or ANSWER_STATUSES[bool(operation["response"])]) | PARTIAL.get(operation["op"], set())


def pattern(path):
    parts = re.split(r"(\{\w+\})", path)
    named = (".+" if part == "{objectName}" else "[^/]+" if part[:1] == "{" else re.escape(part)
             for part in parts)
    return re.compile("".join(named) + "/?")


def header_faults(operation, answer):
    for name in ("opc-request-id", "date"):
        if name not in answer.headers:
            yield f"no header {name}"
    if operation is None:
        return
    declared = operation["response_headers"]
    for name in ("opc-work-request-id", "opc-next-page", "etag"):
        if name in answer.headers and name not in declared:
            yield f"the header {name} is not declared"
    if "etag" in declared and "etag" not in answer.headers and answer.status == 200:
        yield "no header etag"


def error_faults(request, answer, body):
    if answer.status not in CODES:
        yield "a status that is not documented"
    if request.method == "HEAD" or body is None:
        return
    try:
        told = json.loads(body)
        code, message = told["code"], told["message"]
    except (ValueError, TypeError, KeyError):
        yield f"no error as clients read it: {body[:200]}"
        return
    if code not in CODES.get(answer.status, ()):
        yield f"the code {code} is not of this status"
    if not message or answer.headers.get("content-type") != "application/json":
        yield "an error without a message, or not as JSON"


def answer_faults(operation, answer, body):
    legal = Published.statuses(operation)
    if answer.status not in legal:
        yield f"documented is {sorted(legal)}"
    response = operation["response"]
    if response in BYTES:
        # Whatever it is, it is somebody's own.
        return
    if answer.headers.get("content-type") != "application/json" or not body:
        if response and answer.status == 200 and body is not None:
            yield f"no {response}"
        return
    if response is None:
        yield f"a body where none is published: {body[:200]}"
    else:
        try:
            yield from Model(operation["models"]).faults(response, json.loads(body), response)
        except ValueError:
            yield f"no JSON: {body[:200]}"


class Model:
    """The models of one service."""

    def __init__(self, models):
        self.models = models

    def faults(self, kind, value, place):
        """What is wrong with a value that is to be of a type as the Python SDK writes it."""
        if listed := re.fullmatch(r"list\[(.+)\]", kind):
            yield from self.list_faults(listed[1], value, place)
        elif mapped := re.fullmatch(r"dict\(str, (.+)\)", kind):
            yield from self.map_faults(mapped[1], value, place)
        elif kind in self.models:
            yield from self.object_faults(kind, value, place)
        elif not PLAIN[kind](value):
            yield f"{place} is no {kind}: {value!r}"

    def list_faults(self, kind, value, place):
        if not isinstance(value, list):
            yield f"{place} is no list: {value!r}"
            return
        for number, item in enumerate(value):
            yield from self.faults(kind, item, f"{place}[{number}]")

    def map_faults(self, kind, value, place):
        if not isinstance(value, dict):
            yield f"{place} is no map: {value!r}"
            return
        for name, item in value.items():
            yield from self.faults(kind, item, f"{place}.{name}")

    def object_faults(self, kind, value, place):
        if not isinstance(value, dict):
            yield f"{place} is no {kind}: {value!r}"
            return
        model = self.models[kind]
        if choice := model.get("discriminator"):
            said = value.get(choice["attribute"])
            subtype = choice["subtypes"].get(said)
            if subtype is None:
                yield f"{place}.{choice['attribute']} is none of {sorted(choice['subtypes'])}: {said!r}"
                return
            model = self.models[subtype]
        attributes = model["attributes"]
        for name in value.keys() - attributes.keys():
            yield f"{place}.{name} is not published"
        for name, attribute in attributes.items():
            if value.get(name) is not None:
                yield from self.attribute_faults(attribute, value[name], f"{place}.{name}")
            elif attribute.get("required") and f"{kind}.{name}" not in NULL:
                yield f"{place}.{name} is required"

    def attribute_faults(self, attribute, value, place):
        yield from self.faults(attribute["type"], value, place)
        legal = attribute.get("enum")
        words = value if isinstance(value, list) else [value]
        if legal and not all(word in legal for word in words):
            yield f"{place} is none of {legal}: {value!r}"
        longest = attribute.get("max_length")
        if longest and isinstance(value, str) and len(value) > longest:
            yield f"{place} has {len(value)} characters, at most {longest} are published"


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


PLAIN = {
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": is_number,
    "datetime": lambda value: isinstance(value, str) and bool(MOMENT.fullmatch(value)),
    "object": lambda value: True,
    "bytes": lambda value: True,
    "stream": lambda value: True,
}

API = Published(json.loads(DOCUMENT.read_text()))
