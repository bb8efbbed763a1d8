#!/usr/bin/env python3
"""Writes src/kafka/schema_table.rs from Kafka's own message definitions.

The definitions are `common/message/*.json` inside the kafka-clients jar (Apache-2.0) on Maven Central:

    mvn dependency:get -Dartifact=org.apache.kafka:kafka-clients:4.2.0 -Dtransitive=false
    python3 tools/schema/generate.py ~/.m2/repository/org/apache/kafka/kafka-clients/4.2.0/kafka-clients-4.2.0.jar \
        > src/kafka/schema_table.rs

Every request that a broker's client listener can receive is in the table, whether we serve it or not.
"""
import json
import re
import sys
import zipfile
from pathlib import Path

FIXED_BYTES = {"bool": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "float64": 8, "uuid": 16}
# What the decoded value takes in memory: `Bytes` and strings over it are four words, a `Vec` is three.
POINTER_BYTES = {"string": 32, "bytes": 32, "records": 32}
VEC_BYTES = 24
UNKNOWN_TAGS_BYTES = 24  # every decoded structure has a BTreeMap for tags that it does not know
MAX = 32767
NOT_IN_CODEC = {"StreamsGroupHeartbeat", "StreamsGroupDescribe"}  # requests that kafka-protocol 0.18 lacks


def versions(text, valid):
    """A range of versions, cut to those that the message has; None if nothing is left."""
    if text is None or text == "none":
        return None
    match = re.fullmatch(r"(\d+)(\+|-(\d+))?", text)
    low = int(match[1])
    high = low if match[2] is None else MAX if match[2] == "+" else int(match[3])
    low, high = max(low, valid[0]), min(high, valid[1])
    return (low, high) if low <= high else None


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def definition_name(name):
    return name + "Request"


class Message:
    def __init__(self, definition):
        self.name = definition["name"].removesuffix("Request")
        self.key = definition["apiKey"]
        self.valid = versions(definition["validVersions"], (0, MAX))
        self.flexible = versions(definition["flexibleVersions"], self.valid)
        self.common = {s["name"]: s["fields"] for s in definition.get("commonStructs", [])}
        self.statics = []  # (name, memory bytes, lines, type), inner structures first
        self.module = snake(definition["name"])
        self.emitted = {}
        self.root = self.structure("", definition["fields"])

    def structure(self, type_name, fields):
        """Emits a structure once and returns the name of its static and its size in memory."""
        if type_name in self.emitted:
            return self.emitted[type_name]
        lines, memory = [], UNKNOWN_TAGS_BYTES
        for field in fields:
            kind, size = self.kind(field["type"], field)
            memory += size
            at = versions(field["versions"], self.valid)
            if at is None:
                continue
            nullable = versions(field.get("nullableVersions"), self.valid)
            tagged = versions(field.get("taggedVersions"), self.valid)
            parts = [f'"{snake(field["name"])}"', f"v{at}", f"v{nullable}" if nullable else "NEVER", kind]
            if tagged is None:
                lines.append(f"field({', '.join(parts)}),")
            else:
                lines.append(f"tagged({field['tag']}, v{tagged}, {', '.join(parts)}),")
        memory = (memory + 7) // 8 * 8
        static = snake(self.name + type_name).upper()
        self.statics.append((static, memory, lines, type_name or definition_name(self.name)))
        self.emitted[type_name] = (static, memory)
        return static, memory

    def kind(self, type_name, field):
        if type_name in FIXED_BYTES:
            return f"Fixed({FIXED_BYTES[type_name]})", FIXED_BYTES[type_name]
        if type_name == "string":
            return "String", POINTER_BYTES[type_name]
        if type_name in POINTER_BYTES:
            return "Bytes", POINTER_BYTES[type_name]
        if type_name.startswith("[]"):
            inner, memory = self.kind(type_name[2:], field)
            return f"Array(&{inner}, {memory})", VEC_BYTES
        static, memory = self.structure(type_name, field.get("fields") or self.common[type_name])
        return f"Struct({static})", memory


def main():
    jar = Path(sys.argv[1])
    messages = []
    with zipfile.ZipFile(jar) as archive:
        for name in archive.namelist():
            if not re.fullmatch(r"common/message/\w+Request\.json", name):
                continue
            text = archive.read(name).decode()
            definition = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.M))
            if "broker" in definition.get("listeners", []):
                messages.append(Message(definition))
    messages.sort(key=lambda message: message.key)
    print(f"//! The layout of every request. GENERATED from {jar.name} by tools/schema/generate.py, which says how:")
    print("//! do not edit. See `walker` for the use.")
    print()
    print("use super::walker::Kind::{Array, Bytes, Fixed, String, Struct};")
    print("use super::walker::{Field, NEVER, Schema, field, tagged, v};")
    print()
    print("/// All requests, sorted by API key.")
    print("pub const SCHEMAS: &[Schema] = &[")
    for message in messages:
        flexible = f"v{message.flexible}" if message.flexible else "NEVER"
        print(f'    Schema {{ api_key: {message.key}, name: "{message.name}", versions: v{message.valid}, '
              f"flexible: {flexible}, fields: {message.root[0]} }},")
    print("];")
    for message in messages:
        print()
        for static, _, lines, _ in message.statics:
            print(f"const {static}: &[Field] = &[")
            for line in lines:
                print(f"    {line}")
            print("];")
    print()
    print("/// What each decoded structure really takes, and what the arrays above say that it takes.")
    print("#[cfg(test)]")
    print("pub const DECODED_BYTES: &[(&str, usize, usize)] = &[")
    for message in (message for message in messages if message.name not in NOT_IN_CODEC):
        for _, memory, _, type_name in message.statics:
            path = f"kafka_protocol::messages::{message.module}::{type_name}"
            print(f'    ("{message.name}: {type_name}", size_of::<{path}>(), {memory}),')
    print("];")


main()
